-- Claiming. A ticket is redeemed at most once: the row is locked, and the hash is gone with the claim.
-- An instance is a process, or with p_cgroup_id all of one cgroup. p_sidecar: the process that claims for it
-- and may fetch for it; a repeat by another one adds it, and the newest four are kept.
-- verdict: claimed | repeated (same instance) | gone | ended | taken | ticket | too_many
-- p_scope: what it is bound to, where the opener left that to the claim.
-- `task` is its row as it is now, if it is this instance's.
create function claim_task(
  p_task uuid, p_ticket_hash bytea, p_instance uuid, p_boot text, p_pid integer, p_start text, p_dev text, p_ino text,
  p_uid bigint, p_gid bigint, p_facts jsonb, p_most integer, p_attempt uuid, p_by text,
  p_cgroup text default null, p_cgroup_id text default null, p_sidecar jsonb default null,
  p_scope text default null
) returns table (verdict text, state text, instance_id uuid, task json) language plpgsql volatile as $$
#variable_conflict use_column
declare
  t tasks;
  i instances;
  held bigint;
  stamp timestamptz;
  sidecars_after jsonb;
begin
  perform 1 from tasks x where x.id = p_task for update;
  select * into t from tasks x where x.id = p_task;
  if not found then return query select 'gone', null::text, null::uuid, null::json; return; end if;
  stamp := clock_timestamp();
  for tries in 1..2 loop -- the one that is there may just be removed, unused for so long
    insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts, cgroup, cgroup_id)
      values (p_instance, p_boot, p_pid, p_start, p_dev, p_ino, p_uid, p_gid, p_facts, p_cgroup, p_cgroup_id)
      on conflict do nothing;
    if p_cgroup_id is null then
      select * into i from instances x where x.boot_id = p_boot and x.pid = p_pid and x.start_time = p_start and x.cgroup_id is null for update;
    else
      select * into i from instances x where x.boot_id = p_boot and x.cgroup_id = p_cgroup_id for update;
    end if;
    exit when found;
  end loop;
  if p_cgroup_id is null and (i.exe_dev, i.exe_ino) is distinct from (p_dev, p_ino) then -- it has executed another file since its first claim
    update instances x set exe_dev = p_dev, exe_ino = p_ino, uid = p_uid, gid = p_gid, facts = p_facts where x.id = i.id returning * into i;
  end if;
  sidecars_after := t.sidecars;
  if p_sidecar is not null then
    select jsonb_agg(kept.s order by kept.n) into sidecars_after from (
      select e.s, e.n from jsonb_array_elements(t.sidecars || p_sidecar) with ordinality e(s, n)
      where e.s <> p_sidecar or e.n > jsonb_array_length(t.sidecars) order by e.n desc limit 4) kept;
  end if;
  if t.state = 'active' and t.expires_at > stamp then
    if t.instance = i.id and sidecars_after <> t.sidecars then
      update tasks x set sidecars = sidecars_after where x.id = p_task returning x.* into t;
      perform log_entry(stamp, 'task.sidecar_added', p_task, t.agent, p_by, jsonb_build_object('instance', i.id, 'via', p_sidecar));
      perform pg_notify('brevet', 'claim ' || i.pid);
    end if;
    if t.instance <> i.id then return query select 'taken', t.state, i.id, null::json; return; end if;
    return query select 'repeated', t.state, i.id, x.task from task_row(t, i) x; return;
  end if;
  if t.state <> 'ready' or t.expires_at <= stamp then
    return query select 'ended', case when t.state = 'ready' then 'expired' else t.state end, i.id, null::json; return;
  end if;
  if t.bind = 'ticket' and (p_ticket_hash is null or t.ticket_hash is null
      or t.ticket_hash <> p_ticket_hash or t.ticket_expires_at <= stamp) then
    return query select 'ticket', t.state, i.id, null::json; return;
  end if;
  select count(*) into held from tasks x where x.instance = i.id and x.state = 'active' and x.expires_at > stamp;
  if held >= p_most then return query select 'too_many', t.state, i.id, null::json; return; end if;
  insert into attestations (attempt, at, outcome, pid, uid, gid, facts, task, instance, via)
    values (p_attempt, stamp, 'granted', p_pid, p_uid, p_gid, p_facts, p_task, i.id, p_sidecar);
  update tasks x set state = 'active', instance = i.id, claimed_at = stamp, ticket_hash = null, ticket_expires_at = null,
    sidecars = sidecars_after, scope = case when t.scope_left then coalesce(p_scope, t.scope) else t.scope end
    where x.id = p_task returning x.* into t;
  perform log_entry(stamp, 'task.claimed', p_task, t.agent, p_by,
    jsonb_build_object('instance', i.id, 'scope', t.scope, 'pid', p_pid, 'uid', p_uid, 'facts', p_facts)
    || case when p_cgroup is null then '{}' else jsonb_build_object('cgroup', p_cgroup) end
    || case when p_sidecar is null then '{}' else jsonb_build_object('via', p_sidecar) end);
  perform pg_notify('brevet', 'claim ' || i.pid);
  return query select 'claimed', 'active', i.id, x.task from task_row(t, i) x;
end $$;
