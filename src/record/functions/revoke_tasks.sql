-- The second transaction, for many tasks at once: each is ended (r_state set) or its context is
-- changed (r_state null). A task stands at most once in a batch. The feed's head is locked last.
-- verdict: ended | changed | unchanged | already (it was over) | gone
-- `task` and `instance` are the rows as they are now.
create function revoke_tasks(
  r_task uuid[], r_state text[], r_set jsonb[], r_remove jsonb[], r_reason text[], r_actor text[]
) returns table (
  ord bigint, verdict text, state_before text, state text, epoch bigint, sequence bigint, until timestamptz, at timestamptz, task tasks, instance instances
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
  stamp_text text;
  r record;
  now_state text;
  now_context jsonb;
  says text;
  -- one element for each request
  verdicts text[] := '{}';
  befores text[] := '{}';
  sequences bigint[] := '{}';
  untils timestamptz[] := '{}';
  -- one for each that moves
  kinds text[] := '{}';
  moved uuid[] := '{}';
  agents text[] := '{}';
  actors text[] := '{}';
  bodies jsonb[] := '{}';
  told bigint := 0;
  head bigint;
begin
  perform pg_advisory_xact_lock(task_fence(f.id)) from (select distinct unnest(r_task) as id order by 1) f;
  perform 1 from tasks t where t.id = any (r_task) order by t.id for update;
  stamp := clock_timestamp();
  stamp_text := entry_time(stamp);
  for r in
    select q.ord, q.id, q.wanted, q.changes, q.removals, q.reason, q.actor, t.agent, t.state, t.epoch, t.context, t.expires_at,
      t.instance is not null as claimed, greatest(t.x509_ttl, t.jwt_ttl) as ttl
    from unnest(r_task, r_state, r_set, r_remove, r_reason, r_actor) with ordinality as q(id, wanted, changes, removals, reason, actor, ord)
    left join tasks t on t.id = q.id order by q.ord
  loop
    now_context := r.context;
    now_state := case when r.expires_at <= stamp then 'expired' else r.wanted end;
    if now_state is null then
      now_context := r.context || r.changes;
      if r.removals <> '[]' then now_context := now_context - array(select jsonb_array_elements_text(r.removals)); end if;
    end if;
    says := case when r.agent is null then 'gone' when r.state not in ('ready', 'active') then 'already'
                 when now_state is not null then 'ended' when now_context = r.context then 'unchanged' else 'changed' end;
    verdicts[r.ord] := says;
    befores[r.ord] := r.state;
    sequences[r.ord] := null;
    untils[r.ord] := least(r.expires_at, stamp + make_interval(secs => r.ttl)) + interval '120 seconds';
    continue when says not in ('ended', 'changed');

    if now_state = 'expired' then
      r.actor := 'brevet';
      r.reason := 'expired';
    end if;
    moved := moved || r.id;
    agents := agents || r.agent::text;
    actors := actors || r.actor::text;
    if says = 'ended' then
      update tasks t set epoch = t.epoch + 1, state = now_state, ended_at = stamp, ended_by = r.actor, end_reason = r.reason, ticket_hash = null where t.id = r.id;
      kinds := kinds || ('task.' || now_state);
      bodies := bodies || entry_body(stamp_text, 'task.' || now_state, r.id, r.agent, r.actor,
        jsonb_build_object('epoch', r.epoch + 1, 'reason', r.reason, 'before', r.state));
    else
      update tasks t set epoch = t.epoch + 1, context = now_context, context_digest = context_digest(now_context) where t.id = r.id;
      kinds := kinds || 'task.context_changed'::text;
      bodies := bodies || entry_body(stamp_text, 'task.context_changed', r.id, r.agent, r.actor,
        jsonb_build_object('epoch', r.epoch + 1, 'context', now_context, 'digest', context_digest(now_context)));
    end if;
    -- A task that nobody claimed has no SVIDs: nothing to tell the verifiers.
    if r.claimed then
      told := told + 1;
      sequences[r.ord] := told;
    end if;
  end loop;

  insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, e.kind, e.task, e.agent, e.actor, e.body, sha256(convert_to(e.body::text, 'UTF8'))
    from unnest(kinds, moved, agents, actors, bodies) e(kind, task, agent, actor, body);
  if told > 0 then
    update feed_head h set sequence = h.sequence + told returning h.sequence - told into head;
    insert into revocations (sequence, subject, epoch, until, at)
      select head + s.nth, s.id::text, t.epoch, s.until, stamp
      from unnest(r_task, sequences, untils) s(id, nth, until) join tasks t on t.id = s.id where s.nth is not null order by s.nth;
    perform pg_notify('brevet', 'feed');
  end if;
  return query
    select s.ord, s.verdict, s.before, t.state, t.epoch, head + s.nth, case when s.nth is not null then s.until end, stamp, t, i
    from unnest(r_task, verdicts, befores, sequences, untils) with ordinality s(id, verdict, before, nth, until, ord)
    left join tasks t on t.id = s.id left join instances i on i.id = t.instance order by s.ord;
end $$;
