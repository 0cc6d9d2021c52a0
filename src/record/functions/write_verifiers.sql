-- What one broker knows of its verifiers, as far as it has changed; `[]` says only that those it told of are still there.
-- A verifier that has moved on to another broker is that broker's. Whoever can't accept anything any more is removed.
create function write_verifiers(p_broker text, p_rows jsonb) returns void language plpgsql volatile as $$
declare
  stamp timestamptz := clock_timestamp();
begin
  insert into verifier_brokers as b (broker, seen_at) values (p_broker, stamp)
    on conflict (broker) do update set seen_at = excluded.seen_at;
  insert into verifiers as v (id, who, name, broker, pid, max_staleness_ms, applied, applied_at, joined_at, left_at)
    select r.id, r.who, r.name, p_broker, r.pid, r.max_staleness_ms, r.applied, to_timestamp(r.applied_at / 1000),
      to_timestamp(r.joined_at / 1000), to_timestamp(r.left_at / 1000)
    from jsonb_to_recordset(p_rows) as r(id uuid, who text, name text, pid integer, max_staleness_ms bigint, applied bigint,
      applied_at float8, joined_at float8, left_at float8)
    order by r.id, r.who
    on conflict (id, who) do update set name = excluded.name, broker = excluded.broker, pid = excluded.pid,
      max_staleness_ms = excluded.max_staleness_ms, applied = excluded.applied, applied_at = excluded.applied_at,
      joined_at = excluded.joined_at, left_at = excluded.left_at
    where excluded.joined_at >= v.joined_at;
  delete from verifiers v using verifier_brokers b where b.broker = v.broker
    and coalesce(v.left_at, b.seen_at) + make_interval(secs => v.max_staleness_ms / 1000.0) < stamp - interval '1 minute';
  delete from verifier_brokers b where b.seen_at < stamp - interval '2 days'
    and not exists (select 1 from verifiers v where v.broker = b.broker);
end $$;
