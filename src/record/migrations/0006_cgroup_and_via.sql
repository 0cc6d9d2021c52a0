-- Up Migration
-- Tasks may be bound to a cgroup: its path, and the kernel's ID of it, which no other cgroup of this boot
-- ever has. And processes that are not the instance may fetch for it: which ones, and which SVIDs they had.

alter table instances add column cgroup text;
alter table instances add column cgroup_id text;
alter table instances add constraint instances_cgroup_whole check ((cgroup is null) = (cgroup_id is null));
drop index instances_process;
create unique index instances_process on instances (boot_id, pid, start_time) where cgroup_id is null;
create unique index instances_cgroup on instances (boot_id, cgroup_id) where cgroup_id is not null;

alter table tasks drop constraint tasks_scope_check;
alter table tasks add constraint tasks_scope_check check (scope in ('process', 'tree', 'cgroup'));
-- processes that claimed for the instance, the newest last: {pid, startTime, exeDev, exeIno, uid, gid, path}
alter table tasks add column sidecars jsonb not null default '[]';

-- the process that fetched, where it was not the instance
alter table svids add column via jsonb;
alter table attestations add column via jsonb;
