create function new_ticket(p_task uuid, p_hash bytea, p_seconds integer, p_by text)
returns table (verdict text, state text, expires_at timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  t tasks;
  stamp timestamptz;
begin
  perform 1 from tasks x where x.id = p_task for update;
  select * into t from tasks x where x.id = p_task;
  if not found then return query select 'gone', null::text, null::timestamptz; return; end if;
  stamp := clock_timestamp();
  if t.state <> 'ready' or t.bind <> 'ticket' or t.expires_at <= stamp then
    return query select 'wrong', case when t.state = 'ready' and t.expires_at <= stamp then 'expired' else t.state end, null::timestamptz; return;
  end if;
  update tasks x set ticket_hash = p_hash, ticket_expires_at = stamp + make_interval(secs => p_seconds) where x.id = p_task;
  perform log_entry(stamp, 'task.ticket_issued', p_task, t.agent, p_by, '{}');
  return query select 'issued', t.state, stamp + make_interval(secs => p_seconds);
end $$;
