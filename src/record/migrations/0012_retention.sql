-- Up Migration
-- How long the record is kept is the owner's to say, and no argument of who asks for the removal. What is
-- append-only is removed by `purge` (../functions) alone, and of that only what is past the retention: the
-- owner's own DELETE is refused as its UPDATE is.

create table settings (
  only_row boolean primary key default true check (only_row),
  retention interval not null default '90 days'
);
insert into settings default values;

create or replace function append_only() returns trigger language plpgsql as $$
begin
  raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

-- `brevet.purged_before`: set by `purge` for its own statements, and then nothing again.
create function purged_only() returns trigger language plpgsql as $$
begin
  if nullif(current_setting('brevet.purged_before', true), '')::timestamptz <= clock_timestamp() - (select retention from brevet.settings) then
    return null;
  end if;
  raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

do $$ declare t text; since text; begin
  for t, since in values ('svids', 'expires_at'), ('attestations', 'at'), ('revocations', 'until'), ('entries', 'at') loop
    execute format('drop trigger append_only on %I', t);
    execute format('create trigger append_only before update on %I for each statement execute function append_only()', t);
    execute format('create trigger purged_only before delete on %I for each statement execute function purged_only()', t);
    execute format('create trigger purged_only_old before delete on %I for each row
      when (old.%I >= current_setting(''brevet.purged_before'', true)::timestamptz) execute function append_only()', t, since);
  end loop;
end $$;

-- By these the old is found without reading the rest.
create index svids_expires on svids (expires_at);
create index attestations_at on attestations (at);
drop index entries_at;
create index entries_at on entries (at);
create index tasks_ended on tasks (ended_at) where ended_at is not null;
create index tasks_instance on tasks (instance) where instance is not null;
create index instances_created on instances (created_at);
