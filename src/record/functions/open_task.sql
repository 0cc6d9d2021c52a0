-- Opening. The agent's row is share-locked, so that disabling an agent and opening its task never miss each other.
-- verdict: opened | repeated (same idempotency key) | unknown_agent | disabled
create function open_task(
  p_id uuid, p_agent text, p_ttl integer, p_context jsonb, p_purpose text, p_for text, p_refs jsonb,
  p_bind text, p_scope text, p_key text, p_by text, p_ticket_hash bytea, p_ticket_seconds integer
) returns table (verdict text, task_id uuid, disabled_reason text) language plpgsql volatile as $$
#variable_conflict use_column
declare
  a agents;
  stamp timestamptz;
  other uuid;
begin
  select * into a from agents x where x.name = p_agent for share;
  if not found or not a.registered then return query select 'unknown_agent', null::uuid, null::text; return; end if;
  if p_key is not null then
    select t.id into other from tasks t where t.agent = p_agent and t.idempotency_key = p_key;
    if found then return query select 'repeated', other, null::text; return; end if;
  end if;
  if a.disabled_at is not null then return query select 'disabled', null::uuid, a.disabled_reason; return; end if;
  stamp := clock_timestamp();
  insert into tasks (id, agent, owner, state, context, context_digest, purpose, on_behalf_of, refs, bind, scope,
    idempotency_key, x509_ttl, jwt_ttl, on_exit, opened_at, opened_by, expires_at, ticket_hash, ticket_expires_at)
  values (p_id, p_agent, a.owner, 'ready', p_context, context_digest(p_context), p_purpose, p_for, p_refs, p_bind, p_scope,
    p_key, (a.definition ->> 'x509Ttl')::int, (a.definition ->> 'jwtTtl')::int, a.definition ->> 'onExit', stamp, p_by,
    stamp + make_interval(secs => p_ttl), p_ticket_hash,
    case when p_ticket_hash is not null then stamp + make_interval(secs => p_ticket_seconds) end)
  on conflict do nothing;
  if not found then -- another call with this key came first
    select t.id into other from tasks t where t.agent = p_agent and t.idempotency_key = p_key;
    return query select 'repeated', other, null::text; return;
  end if;
  perform log_entry(stamp, 'task.opened', p_id, p_agent, p_by, jsonb_strip_nulls(jsonb_build_object(
    'ttl', p_ttl, 'context', p_context, 'purpose', nullif(p_purpose, ''), 'for', nullif(p_for, ''),
    'refs', p_refs, 'bind', p_bind, 'scope', p_scope, 'owner', a.owner)));
  if p_bind = 'auto' then perform pg_notify('brevet', 'auto ' || p_agent); end if;
  return query select 'opened', p_id, null::text;
end $$;
