-- Which list comes next? Under the authority's lock, so that a higher number never covers less. A list that
-- another broker numbered after ours, and that covers all we know, is joined until it is due (crl.ts's renewMs):
-- the same number, the same list.
-- What expired is held until a list was made after its end, and for two minutes, for clocks that are behind.
create function next_crl(p_authority text, p_above bigint, p_sequence bigint)
returns table (number bigint, sequence bigint, at timestamptz, since timestamptz) language plpgsql volatile as $$
declare
  a authorities;
  head bigint;
  stamp timestamptz;
begin
  select * into a from authorities x where x.id = p_authority for update;
  if not found then return; end if;
  stamp := clock_timestamp();
  if a.crl_number > p_above and a.crl_sequence >= p_sequence and a.crl_at between stamp - interval '150 seconds' and stamp then
    return query select a.crl_number, a.crl_sequence, a.crl_at, a.crl_since;
    return;
  end if;
  select h.sequence into head from feed_head h;
  return query update authorities x set crl_number = greatest(a.crl_number, p_above) + 1, crl_sequence = greatest(head, a.crl_sequence), crl_at = stamp,
    crl_since = least(a.crl_at, stamp - interval '120 seconds') where x.id = p_authority
    returning x.crl_number, x.crl_sequence, x.crl_at, x.crl_since;
end $$;
