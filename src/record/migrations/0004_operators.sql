-- Up Migration
-- People and programs that reach a broker over the network, by a certificate each. The row stays when one is
-- removed: its epoch goes on if the name is given again, so an old certificate never comes back to life.

create table operators (
  name text primary key,
  role text not null check (role in ('operator', 'orchestrator', 'service', 'auditor')),
  agents text[] not null default '{}',
  ttl integer not null,
  epoch bigint not null default 1,
  added_at timestamptz not null,
  added_by text not null,
  removed_at timestamptz,
  removed_by text,
  removed_reason text
);
grant select, insert, update on operators to brevet_app;

-- Which boots a broker's data directory has been through: a start ends the tasks that processes of an earlier
-- boot of the same machine held, and leaves those of other machines alone.
create table boots (
  boot_id text not null,
  machine text not null,
  first_seen timestamptz not null default clock_timestamp(),
  primary key (machine, boot_id)
);
grant select, insert on boots to brevet_app;
