-- Claiming. A ticket is redeemed at most once: the row is locked, and the hash is gone with the claim.
-- verdict: claimed | repeated (same instance) | gone | ended | taken | ticket | too_many
-- `task` and `instance` are the rows as they are now, if the task is this instance's.
create function claim_task(
  p_task uuid, p_ticket_hash bytea, p_instance uuid, p_boot text, p_pid integer, p_start text, p_dev text, p_ino text,
  p_uid bigint, p_gid bigint, p_facts jsonb, p_most integer, p_attempt uuid, p_by text
) returns table (verdict text, state text, instance_id uuid, task tasks, instance instances) language plpgsql volatile as $$
#variable_conflict use_column
declare
  t tasks;
  i uuid;
  held bigint;
  stamp timestamptz;
begin
  perform 1 from tasks x where x.id = p_task for update;
  select * into t from tasks x where x.id = p_task;
  if not found then return query select 'gone', null::text, null::uuid, null::tasks, null::instances; return; end if;
  stamp := clock_timestamp();
  insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts)
    values (p_instance, p_boot, p_pid, p_start, p_dev, p_ino, p_uid, p_gid, p_facts)
    on conflict (boot_id, pid, start_time) do nothing;
  select x.id into i from instances x where x.boot_id = p_boot and x.pid = p_pid and x.start_time = p_start for update;
  if t.state = 'active' and t.expires_at > stamp then
    if t.instance <> i then return query select 'taken', t.state, i, null::tasks, null::instances; return; end if;
    return query select 'repeated', t.state, i, t, x from instances x where x.id = i; return;
  end if;
  if t.state <> 'ready' or t.expires_at <= stamp then
    return query select 'ended', case when t.state = 'ready' then 'expired' else t.state end, i, null::tasks, null::instances; return;
  end if;
  if t.bind = 'ticket' and (p_ticket_hash is null or t.ticket_hash is null
      or t.ticket_hash <> p_ticket_hash or t.ticket_expires_at <= stamp) then
    return query select 'ticket', t.state, i, null::tasks, null::instances; return;
  end if;
  select count(*) into held from tasks x where x.instance = i and x.state = 'active' and x.expires_at > stamp;
  if held >= p_most then return query select 'too_many', t.state, i, null::tasks, null::instances; return; end if;
  insert into attestations (attempt, at, outcome, pid, uid, gid, facts, task, instance)
    values (p_attempt, stamp, 'granted', p_pid, p_uid, p_gid, p_facts, p_task, i);
  update tasks x set state = 'active', instance = i, claimed_at = stamp, ticket_hash = null, ticket_expires_at = null
    where x.id = p_task returning x.* into t;
  perform log_entry(stamp, 'task.claimed', p_task, t.agent, p_by,
    jsonb_build_object('instance', i, 'pid', p_pid, 'uid', p_uid, 'facts', p_facts));
  perform pg_notify('brevet', 'claim ' || p_pid);
  return query select 'claimed', 'active', i, t, x from instances x where x.id = i;
end $$;
