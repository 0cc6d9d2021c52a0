-- A task and the process that it is bound to, as the broker reads them: one value, since a column each would cost
-- it twice as much to take in. The state is that of this moment, whether or not any process was up to write it.
-- One row, so that it becomes a part of the statement that asks.
create function task_row(t tasks, i instances) returns table (task json) language sql stable as $$
  select row_to_json(x) from (select
    t.id, t.agent, t.owner, t.epoch, t.context, t.context_digest, t.purpose, t.on_behalf_of, t.refs, t.bind, t.scope, t.scope_left,
    t.on_exit, t.opened_at, t.opened_by, t.expires_at, t.claimed_at, t.ended_by, t.end_reason, t.sidecars,
    case when t.state in ('ready', 'active') and t.expires_at <= clock_timestamp() then 'expired' else t.state end as state,
    case when t.state in ('ready', 'active') and t.expires_at <= clock_timestamp() then t.expires_at else t.ended_at end as ended_at,
    i.id as i_id, i.boot_id as i_boot_id, i.pid as i_pid, i.start_time as i_start_time, i.exe_dev as i_exe_dev,
    i.exe_ino as i_exe_ino, i.uid as i_uid, i.gid as i_gid, i.facts ->> 'path' as i_path, i.cgroup as i_cgroup, i.cgroup_id as i_cgroup_id) x
$$;
