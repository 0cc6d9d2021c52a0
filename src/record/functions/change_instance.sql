-- A bound process that has executed another file, and was attested anew as what it is now: a later start of the broker
-- knows it by that. Each of its tasks says so in the log.
create function change_instance(
  p_instance uuid, p_dev text, p_ino text, p_uid bigint, p_gid bigint, p_facts jsonb, p_attempt uuid
) returns void language plpgsql volatile as $$
declare
  i instances;
  stamp timestamptz := clock_timestamp();
begin
  update instances x set exe_dev = p_dev, exe_ino = p_ino, uid = p_uid, gid = p_gid, facts = p_facts
    where x.id = p_instance and x.cgroup_id is null and (x.exe_dev, x.exe_ino) is distinct from (p_dev, p_ino) returning * into i;
  if not found then return; end if;
  insert into attestations (attempt, at, outcome, reason, pid, uid, gid, facts, instance)
    values (p_attempt, stamp, 'granted', 'it executes another file', i.pid, p_uid, p_gid, p_facts, i.id);
  perform log_entry(stamp, 'instance.changed', t.id, t.agent, 'instance ' || i.id, jsonb_build_object('facts', p_facts))
    from tasks t where t.instance = i.id and t.state = 'active';
end $$;
