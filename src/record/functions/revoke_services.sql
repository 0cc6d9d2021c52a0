-- The second transaction for services: epoch + 1, so all SVIDs until now are dead. One that has no SVID alive has
-- none to end, and stays as it is: a repeat changes nothing.
create function revoke_services(names text[], because text, who text)
returns table (name text, epoch bigint, sequence bigint, until timestamptz, at timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
  s record;
  head bigint;
  dead_after timestamptz;
begin
  perform 1 from services x where x.name = any (names) order by x.name for update;
  stamp := clock_timestamp();
  for s in update services x set epoch = x.epoch + 1 where x.name = any (names)
      and exists (select 1 from svids v where v.service = x.name and v.epoch = x.epoch and v.expires_at > stamp) returning x.* loop
    -- by its rows, not by the catalog's lifetimes: those may have been shortened since
    select greatest(stamp, max(v.expires_at)) + interval '120 seconds' into dead_after from svids v where v.service = s.name;
    perform log_entry(stamp, 'service.revoked', null, null, who, jsonb_build_object('service', s.name, 'epoch', s.epoch, 'reason', because));
    update feed_head h set sequence = h.sequence + 1 returning h.sequence into head;
    insert into revocations (sequence, subject, epoch, until, at) values (head, 'service/' || s.name, s.epoch, dead_after, stamp);
    name := s.name; epoch := s.epoch; sequence := head; until := dead_after; at := stamp;
    return next;
  end loop;
  if head is not null then perform pg_notify('brevet', 'feed'); end if;
end $$;
