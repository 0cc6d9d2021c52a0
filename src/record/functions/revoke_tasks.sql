-- The second transaction, for many tasks at once: each is ended (r_state set) or its context is
-- changed (r_state null). A task stands at most once in a batch. The feed's head is locked last.
-- Rows are moved by one statement for all of them: each statement on `tasks` costs as much again as a row.
-- They are named twice there, so that whatever the planner knows of the table it reads no others.
-- verdict: ended | changed | unchanged | too_many (the context would have more facts than most_facts) | already (it was over) | gone
-- `task` is its row as it is now; null where r_row says that nobody asks for it.
create function revoke_tasks(
  r_task uuid[], r_state text[], r_set jsonb[], r_remove jsonb[], r_reason text[], r_actor text[],
  most_facts integer default 64, r_row boolean[] default null
) returns table (
  ord bigint, verdict text, state_before text, state text, epoch bigint, sequence bigint, until timestamptz, at timestamptz, task json
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
  stamp_text text;
  -- one element for each request
  verdicts text[];
  befores text[];
  epochs bigint[];
  nths bigint[];
  untils timestamptz[];
  told bigint;
  head bigint;
begin
  perform pg_advisory_xact_lock(task_fence(f.id)) from (select distinct unnest(r_task) as id order by 1) f;
  perform 1 from tasks t where t.id = any (r_task) order by t.id for update;
  stamp := clock_timestamp();
  stamp_text := entry_time(stamp);
  with asked as materialized (
    select q.ord, q.id, t.agent, t.state, t.epoch, t.context, t.instance is not null as claimed,
      case when t.expires_at <= stamp then 'expired' else q.wanted end as next_state,
      case when t.expires_at <= stamp then 'brevet' else q.actor end as actor,
      case when t.expires_at <= stamp then 'expired' else q.reason end as reason,
      (t.context || q.changes) - array(select jsonb_array_elements_text(q.removals)) as next_context,
      least(t.expires_at, stamp + make_interval(secs => greatest(t.x509_ttl, t.jwt_ttl))) + interval '120 seconds' as until
    from unnest(r_task, r_state, r_set, r_remove, r_reason, r_actor) with ordinality as q(id, wanted, changes, removals, reason, actor, ord)
    left join tasks t on t.id = q.id
  ), judged as materialized (
    select a.*, v.verdict, d.digest, case v.verdict when 'ended' then 'task.' || a.next_state when 'changed' then 'task.context_changed' end as kind,
      case when w.told then count(*) filter (where w.told) over (order by a.ord) end as nth
    from asked a
    cross join lateral (select case when a.agent is null then 'gone' when a.state not in ('ready', 'active') then 'already'
      when a.next_state is not null then 'ended' when a.next_context = a.context then 'unchanged'
      when (select count(*) from jsonb_object_keys(a.next_context)) > most_facts then 'too_many' else 'changed' end as verdict) v
    cross join lateral (select a.claimed and v.verdict in ('ended', 'changed') as told) w -- nobody claimed it: there are no SVIDs to tell of
    left join lateral context_digest(a.next_context) d on v.verdict = 'changed'
  ), ended as (
    update tasks t set epoch = t.epoch + 1, state = j.next_state, ended_at = stamp, ended_by = j.actor, end_reason = j.reason, ticket_hash = null
    from judged j where t.id = j.id and t.id = any (r_task) and j.verdict = 'ended'
  ), changed as (
    update tasks t set epoch = t.epoch + 1, context = j.next_context, context_digest = j.digest
    from judged j where t.id = j.id and t.id = any (r_task) and j.verdict = 'changed'
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, e.kind, e.id, e.agent, e.actor, e.body, sha256(convert_to(e.body::text, 'UTF8')) from (
      select j.kind, j.id, j.agent, j.actor, entry_body(stamp_text, j.kind, j.id, j.agent, j.actor,
        case j.verdict when 'ended' then jsonb_build_object('epoch', j.epoch + 1, 'reason', j.reason, 'before', j.state)
                       else jsonb_build_object('epoch', j.epoch + 1, 'context', j.next_context, 'digest', j.digest) end) as body
      from judged j where j.kind is not null order by j.ord) e
  )
  select array_agg(j.verdict order by j.ord), array_agg(j.state order by j.ord), array_agg(j.epoch + 1 order by j.ord),
    array_agg(j.nth order by j.ord), array_agg(j.until order by j.ord), coalesce(max(j.nth), 0)
  into verdicts, befores, epochs, nths, untils, told from judged j;

  if told > 0 then
    update feed_head h set sequence = h.sequence + told returning h.sequence - told into head;
    insert into revocations (sequence, subject, epoch, until, at)
      select head + s.nth, s.id::text, s.epoch, s.until, stamp
      from unnest(r_task, nths, epochs, untils) s(id, nth, epoch, until) where s.nth is not null order by s.nth;
    perform pg_notify('brevet', 'feed');
  end if;
  return query
    select s.ord, s.verdict, s.before, t.state, t.epoch, head + s.nth, case when s.nth is not null then s.until end, stamp, x.task
    from unnest(r_task, verdicts, befores, nths, untils) with ordinality s(id, verdict, before, nth, until, ord)
    left join tasks t on t.id = s.id left join instances i on i.id = t.instance
    left join lateral task_row(t, i) x on t.id is not null and coalesce(r_row[s.ord], true) order by s.ord;
end $$;
