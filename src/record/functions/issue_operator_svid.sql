-- The first transaction for an operator's certificate: its row is locked just as a task's, so no removal is
-- missed. `p_epoch`: of the certificate that asks for a new one. No row: it is gone, or that certificate is dead.
create function issue_operator_svid(p_name text, p_epoch bigint, p_serial text, x509_authority text, x509_not_after timestamptz, p_by text)
returns table (role text, agents text[], epoch bigint, issued_at timestamptz, expires_at timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  o operators;
  stamp timestamptz;
  ends timestamptz;
begin
  perform 1 from operators x where x.name = p_name for share;
  select * into o from operators x where x.name = p_name and x.removed_at is null and x.epoch = p_epoch;
  if not found then return; end if;
  stamp := clock_timestamp();
  ends := least(stamp + make_interval(secs => o.ttl), x509_not_after);
  insert into svids (kind, serial, subject, epoch, authority, issued_at, expires_at)
    values ('x509', p_serial, 'brevet/operator/' || p_name, o.epoch, x509_authority, stamp, ends);
  perform log_entry(stamp, 'svid.issued', null, null, p_by, jsonb_build_object(
    'subject', 'brevet/operator/' || p_name, 'kind', 'x509', 'serial', p_serial, 'epoch', o.epoch, 'expires', ends));
  return query select o.role, o.agents, o.epoch, stamp, ends;
end $$;
