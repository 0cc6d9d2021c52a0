-- The first transaction. Inside a volatile function each statement has a snapshot of its own: locking
-- comes first, and what is judged after it is read by a later statement, so it is what the lock protects.
-- One row of the answer for each request, by its ordinal.
-- Times in an SVID are whole seconds, and none outlives its task: in a task's last second there is none to have.
-- verdict: ok | blocked (being changed now: try the next batch) | gone | ended | too_late (its last second) | not_bound
create function issue_svids(
  r_task uuid[], r_instance uuid[], r_kind text[], r_serial text[], r_audiences jsonb,
  x509_authority text, x509_not_after timestamptz, jwt_authority text, jwt_not_after timestamptz,
  r_via jsonb[] default null, r_status bigint[] default null
) returns table (
  ord bigint, verdict text, agent text, epoch bigint, context_digest text, on_behalf_of text,
  issued_at timestamptz, expires_at timestamptz, until_end boolean, state text
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  locked uuid[];
  stamp timestamptz;
  stamp_text text;
begin
  select array_agg(l.id) into locked from (
    select t.id from tasks t
    where t.id in (select f.id from (select distinct unnest(r_task) as id order by 1) f
                   where pg_try_advisory_xact_lock_shared(task_fence(f.id)))
    order by t.id for share skip locked
  ) l;
  stamp := clock_timestamp();
  stamp_text := entry_time(stamp);
  return query
  with judged as materialized (
    select r.ord, r.kind, r.serial, r.task as task_id, r.instance as r_instance, r_via[r.ord] as via, r_status[r.ord] as status, t.agent, t.epoch, t.context_digest,
      t.on_behalf_of, t.expires_at as task_expires_at, date_trunc('second', t.expires_at) as last_second, t.state,
      case when t.id is null then 'gone'
           when not (t.id = any (locked)) or locked is null then 'blocked'
           when t.state <> 'active' or t.expires_at <= stamp then 'ended'
           when t.instance is distinct from r.instance then 'not_bound'
           when date_trunc('second', t.expires_at) <= stamp then 'too_late'
           else 'ok' end as verdict,
      case when r.kind = 'x509' then '{}'::text[]
           else coalesce((select array_agg(a) from jsonb_array_elements_text(r_audiences -> (r.ord - 1)::int) a), '{}') end as audiences,
      date_trunc('second', case r.kind when 'x509' then least(stamp + make_interval(secs => t.x509_ttl), t.expires_at, x509_not_after)
                                       else least(stamp + make_interval(secs => t.jwt_ttl), t.expires_at, jwt_not_after) end) as expires_at
    from unnest(r_task, r_instance, r_kind, r_serial) with ordinality as r(task, instance, kind, serial, ord)
    left join tasks t on t.id = r.task
  ), recorded as (
    insert into svids (kind, serial, task, epoch, instance, authority, audiences, status, issued_at, expires_at, via)
    select j.kind, j.serial, j.task_id, j.epoch, j.r_instance,
      case j.kind when 'x509' then x509_authority else jwt_authority end, j.audiences, j.status, stamp, j.expires_at, j.via
    from judged j where j.verdict = 'ok' order by j.ord
  ), bodies as (
    select j.task_id, j.agent, j.r_instance, entry_body(stamp_text, 'svid.issued', j.task_id, j.agent, 'instance ' || j.r_instance,
      jsonb_build_object('kind', j.kind, 'serial', j.serial, 'epoch', j.epoch, 'audiences', j.audiences, 'expires', j.expires_at)
        || case when j.via is null then '{}' else jsonb_build_object('via', j.via) end) as body
    from judged j where j.verdict = 'ok' order by j.ord
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, 'svid.issued', b.task_id, b.agent, 'instance ' || b.r_instance, b.body, sha256(convert_to(b.body::text, 'UTF8'))
    from bodies b
  )
  select j.ord, j.verdict, j.agent, j.epoch, j.context_digest, j.on_behalf_of, stamp, j.expires_at, j.expires_at >= j.last_second,
    case when j.state in ('ready', 'active') and j.task_expires_at <= stamp then 'expired' else j.state end
  from judged j;
end $$;
