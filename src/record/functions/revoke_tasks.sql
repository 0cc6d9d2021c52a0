-- The second transaction, for many tasks at once: each is ended (r_state set) or its context is
-- changed (r_state null). A task stands at most once in a batch. The feed's head is locked last.
-- verdict: ended | changed | unchanged | already (it was over) | gone
create function revoke_tasks(
  r_task uuid[], r_state text[], r_set jsonb[], r_remove jsonb[], r_reason text[], r_actor text[]
) returns table (
  ord bigint, task_id uuid, verdict text, state_before text, state text, epoch bigint, sequence bigint, until timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform pg_advisory_xact_lock(task_fence(f.id)) from (select distinct unnest(r_task) as id order by 1) f;
  perform 1 from tasks t where t.id = any (r_task) order by t.id for update;
  stamp := clock_timestamp();
  return query
  with wished as (
    select r.*, t.agent, t.state as state_before, t.epoch as epoch_before, t.context as context_before, t.instance is not null as claimed,
      case when t.expires_at <= stamp then 'expired' else r.state end as to_state,
      case when r.state is null and t.expires_at > stamp
           then (t.context || r.changes) - array(select jsonb_array_elements_text(r.removals)) else t.context end as new_context,
      least(t.expires_at, stamp + make_interval(secs => greatest(t.x509_ttl, t.jwt_ttl))) + interval '120 seconds' as dead_after
    from unnest(r_task, r_state, r_set, r_remove, r_reason, r_actor) with ordinality
      as r(id, state, changes, removals, reason, actor, ord)
    left join tasks t on t.id = r.id
  ), judged as materialized (
    select w.*, case when w.agent is null then 'gone'
                     when w.state_before not in ('ready', 'active') then 'already'
                     when w.to_state is not null then 'ended'
                     when w.new_context = w.context_before then 'unchanged'
                     else 'changed' end as verdict
    from wished w
  ), decided as materialized (
    -- A task that nobody claimed has no SVIDs: nothing to tell the verifiers.
    select j.*, j.verdict in ('ended', 'changed') as moves, j.verdict in ('ended', 'changed') and j.claimed as told,
      case when j.to_state = 'expired' then 'brevet' else j.actor end as by_whom,
      case when j.to_state = 'expired' then 'expired' else j.reason end as because,
      j.epoch_before + case when j.verdict in ('ended', 'changed') then 1 else 0 end as epoch_after
    from judged j
  ), head as (
    update feed_head h set sequence = h.sequence + (select count(*) from decided d where d.told)
    where exists (select 1 from decided d where d.told) returning h.sequence
  ), placed as materialized (
    select d.*, case when d.told then h.sequence - count(*) filter (where d.told) over () +
        count(*) filter (where d.told) over (order by d.ord) end as place
    from decided d left join head h on true
  ), moved as (
    update tasks t set epoch = p.epoch_after, state = coalesce(p.to_state, t.state),
      context = p.new_context, context_digest = context_digest(p.new_context),
      ended_at = case when p.verdict = 'ended' then stamp end,
      ended_by = case when p.verdict = 'ended' then p.by_whom end,
      end_reason = case when p.verdict = 'ended' then p.because end,
      ticket_hash = case when p.verdict = 'ended' then null else t.ticket_hash end
    from placed p where t.id = p.id and p.moves
  ), told as (
    insert into revocations (sequence, subject, epoch, until, at)
    select p.place, p.id::text, p.epoch_after, p.dead_after, stamp from placed p where p.told order by p.place
  ), bodies as (
    select p.*, case when p.verdict = 'changed' then 'task.context_changed' else 'task.' || p.to_state end as kind,
      jsonb_build_object('at', to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'kind', case when p.verdict = 'changed' then 'task.context_changed' else 'task.' || p.to_state end,
        'task', p.id, 'agent', p.agent, 'actor', p.by_whom, 'details',
        case when p.verdict = 'changed'
             then jsonb_build_object('epoch', p.epoch_after, 'context', p.new_context, 'digest', context_digest(p.new_context))
             else jsonb_build_object('epoch', p.epoch_after, 'reason', p.because, 'before', p.state_before) end) as body
    from placed p where p.moves order by p.ord
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, b.kind, b.id, b.agent, b.by_whom, b.body, sha256(convert_to(b.body::text, 'UTF8')) from bodies b order by b.ord
  )
  select p.ord, p.id, p.verdict, p.state_before,
    case when p.verdict = 'ended' then p.to_state else p.state_before end, p.epoch_after, p.place, p.dead_after
  from placed p order by p.ord;
  perform pg_notify('brevet', 'feed');
end $$;
