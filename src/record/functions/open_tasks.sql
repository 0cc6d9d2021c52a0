-- Opening, many at once. The agents' rows are share-locked, so that disabling an agent and opening its
-- task never miss each other; what they say is read by the next statement.
-- verdict: opened | repeated (same idempotency key) | again (that key is being used: ask once more) | unknown_agent | disabled
create function open_tasks(requests jsonb) returns table (
  ord bigint, verdict text, task_id uuid, disabled_reason text, owner text, on_exit text, opened_at timestamptz, expires_at timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform 1 from agents a where a.name = any (array(select r ->> 'agent' from jsonb_array_elements(requests) r)) order by a.name for share;
  stamp := clock_timestamp();
  return query
  with judged as materialized (
    select r.*, a.owner, a.definition, a.disabled_reason, before.id as repeats,
      case when a.name is null or not a.registered then 'unknown_agent' when before.id is not null then 'repeated'
           when a.disabled_at is not null then 'disabled' else 'new' end as verdict
    from rows from (jsonb_to_recordset(requests) as (id uuid, agent text, ttl integer, context jsonb, digest text, purpose text,
        behalf text, refs jsonb, bind text, scope text, key text, by text, ticket text, ticket_ttl integer)) with ordinality
      as r(id, agent, ttl, context, digest, purpose, behalf, refs, bind, scope, key, by, ticket, ticket_ttl, ord)
    left join agents a on a.name = r.agent
    left join tasks before on before.agent = r.agent and before.idempotency_key = r.key
  ), opened as (
    insert into tasks (id, agent, owner, state, context, context_digest, purpose, on_behalf_of, refs, bind, scope, scope_left,
      idempotency_key, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, ticket_hash, ticket_expires_at)
    select j.id, j.agent, j.owner, 'ready', j.context, j.digest, j.purpose, j.behalf, j.refs, j.bind, coalesce(j.scope, 'process'), j.scope is null,
      j.key, (j.definition ->> 'x509Ttl')::int, (j.definition ->> 'jwtTtl')::int, j.definition ->> 'onExit', stamp, j.by,
      stamp + make_interval(secs => j.ttl), decode(j.ticket, 'hex'),
      case when j.ticket is not null then stamp + make_interval(secs => j.ticket_ttl) end
    from judged j where j.verdict = 'new' order by j.agent, j.key, j.ord -- of two batches with the same keys, none waits for the other in a circle
    on conflict (agent, idempotency_key) where idempotency_key is not null do nothing
    returning id, agent, owner, context, purpose, on_behalf_of, refs, bind, scope, on_exit, opened_by, expires_at
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, 'task.opened', b.id, b.agent, b.opened_by, b.body, sha256(convert_to(b.body::text, 'UTF8')) from (
      select o.id, o.agent, o.opened_by, entry_body(entry_time(stamp), 'task.opened', o.id, o.agent, o.opened_by, jsonb_strip_nulls(jsonb_build_object(
        'ttl', extract(epoch from o.expires_at - stamp)::int, 'context', o.context, 'purpose', nullif(o.purpose, ''),
        'for', nullif(o.on_behalf_of, ''), 'refs', o.refs, 'bind', o.bind, 'scope', o.scope, 'owner', o.owner))) as body
      from opened o) b
  )
  select j.ord, case when j.verdict <> 'new' then j.verdict when o.id is null then 'again' else 'opened' end,
    coalesce(o.id, j.repeats), j.disabled_reason, o.owner, o.on_exit, stamp, o.expires_at
  from judged j left join opened o on o.id = j.id;
  perform pg_notify('brevet', 'auto ' || a.agent)
    from (select distinct r ->> 'agent' as agent from jsonb_array_elements(requests) r where r ->> 'bind' = 'auto') a;
end $$;
