-- Up Migration
-- The tables, and who may touch them. Every time is PostgreSQL's own. The transactions are in ../functions.
-- Lock order everywhere: agents, then tasks and services by (id), then instances, then feed_head, last.

create table trust (
  only_row boolean primary key default true check (only_row),
  trust_domain text not null,
  bundle_sequence bigint not null default 1
);

create table authorities (
  id text primary key,
  use text not null check (use in ('root', 'x509', 'jwt')),
  -- dropped: out of the bundle, its key erased; the row stays for the ledger
  state text not null check (state in ('prepared', 'active', 'retired', 'dropped')),
  parent text references authorities (id),
  certificate bytea,
  public_key bytea not null,
  sealed_key bytea not null,
  not_before timestamptz not null,
  not_after timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  state_since timestamptz not null default clock_timestamp(),
  -- of the newest list that any broker signed: it only grows
  crl_number bigint not null default 0
);
create unique index authorities_one_active on authorities (use) where state = 'active';

create table catalog_versions (
  id bigint generated always as identity primary key,
  digest text not null,
  document jsonb not null,
  applied_at timestamptz not null default clock_timestamp(),
  applied_by text not null
);

-- A row stays when the catalog no longer names its agent, so that a disabled agent stays disabled.
create table agents (
  name text primary key,
  owner text not null,
  definition jsonb not null,
  registered boolean not null default true,
  disabled_at timestamptz,
  disabled_reason text
);

create table services (
  name text primary key,
  owner text not null,
  definition jsonb not null,
  registered boolean not null default true,
  epoch bigint not null default 1
);

create table instances (
  id uuid primary key,
  boot_id text not null,
  pid integer not null,
  start_time text not null,
  exe_dev text not null,
  exe_ino text not null,
  uid bigint not null,
  gid bigint not null,
  facts jsonb not null,
  created_at timestamptz not null default clock_timestamp()
);
create unique index instances_process on instances (boot_id, pid, start_time);

create table tasks (
  id uuid primary key,
  agent text not null references agents (name),
  owner text not null,
  state text not null check (state in ('ready', 'active', 'closed', 'aborted', 'expired')),
  epoch bigint not null default 1,
  context jsonb not null,
  context_digest text not null,
  purpose text not null,
  on_behalf_of text not null,
  refs jsonb not null,
  bind text not null check (bind in ('claim', 'ticket', 'auto')),
  scope text not null check (scope in ('process', 'tree')),
  idempotency_key text,
  -- ceilings and habits of the agent when the task was opened
  x509_ttl integer not null,
  jwt_ttl integer not null,
  on_exit text not null check (on_exit in ('abort', 'close')),
  opened_at timestamptz not null,
  opened_by text not null,
  expires_at timestamptz not null,
  ticket_hash bytea,
  ticket_expires_at timestamptz,
  instance uuid references instances (id),
  claimed_at timestamptz,
  ended_at timestamptz,
  ended_by text,
  end_reason text,
  check ((state = 'active') <= (instance is not null)),
  check ((state in ('closed', 'aborted', 'expired')) = (ended_at is not null))
) with (fillfactor = 70);
create unique index tasks_idempotency on tasks (agent, idempotency_key) where idempotency_key is not null;
create index tasks_live_by_expiry on tasks (expires_at) where state in ('ready', 'active');
create index tasks_live_by_agent on tasks (agent) where state in ('ready', 'active');
create index tasks_live_by_instance on tasks (instance) where state = 'active';
create index tasks_refs on tasks using gin (refs jsonb_path_ops) where refs <> '{}';

-- The ledger: every SVID that any client ever saw is a row, written before it was signed.
create table svids (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('x509', 'jwt')),
  serial text not null,       -- x509: lower-case hex; jwt: the jti
  task uuid,
  service text,
  epoch bigint not null,
  instance uuid,
  authority text not null,
  audiences text[] not null default '{}',
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  check ((task is null) <> (service is null))
);
create unique index svids_serial on svids (serial);
create index svids_task on svids (task, id) where task is not null;
create index svids_service on svids (service) where service is not null;

create table attestations (
  id bigint generated always as identity primary key,
  attempt uuid not null,
  at timestamptz not null default clock_timestamp(),
  outcome text not null check (outcome in ('granted', 'denied')),
  reason text not null default '',
  pid integer not null,
  uid bigint not null,
  gid bigint not null,
  facts jsonb not null,
  task uuid,
  instance uuid,
  repeats bigint not null default 0
);
create index attestations_attempt on attestations (attempt);

create table revocations (
  sequence bigint primary key,
  subject text not null,      -- a task ID, or service/<name>
  epoch bigint not null,      -- SVIDs below it must not be accepted
  until timestamptz not null,
  at timestamptz not null
);
create index revocations_until on revocations (until);
create index revocations_subject on revocations (subject, epoch);

create table feed_head (
  only_row boolean primary key default true check (only_row),
  feed_id uuid not null,
  sequence bigint not null
);
insert into feed_head (feed_id, sequence) values (gen_random_uuid(), 0);

create table entries (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  kind text not null,
  task uuid,
  agent text,
  actor text not null,
  body jsonb not null,
  digest bytea not null
);
create index entries_task on entries (task, id) where task is not null;
create index entries_at on entries using brin (at);

-- Append-only: nobody but the owner's own retention may remove a line, and nobody may alter one.
create function append_only() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_user = (select tableowner from pg_tables where schemaname = tg_table_schema and tablename = tg_table_name) then
    return null;
  end if;
  raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete on svids for each statement execute function append_only();
create trigger append_only before update or delete on attestations for each statement execute function append_only();
create trigger append_only before update or delete on revocations for each statement execute function append_only();
create trigger append_only before update or delete on entries for each statement execute function append_only();
create trigger append_only before update or delete on catalog_versions for each statement execute function append_only();
create trigger no_truncate before truncate on svids execute function append_only();
create trigger no_truncate before truncate on attestations execute function append_only();
create trigger no_truncate before truncate on revocations execute function append_only();
create trigger no_truncate before truncate on entries execute function append_only();
create trigger no_truncate before truncate on catalog_versions execute function append_only();

-- The broker's own role: what its statements need, and nothing else.
revoke all on all tables in schema brevet from public;
grant usage on schema brevet to brevet_app;
grant select on all tables in schema brevet to brevet_app;
grant insert on svids, attestations, revocations, entries, catalog_versions, tasks, agents, services, instances, authorities, trust to brevet_app;
grant update on tasks, agents, services, instances, authorities, trust, feed_head to brevet_app;
grant usage on all sequences in schema brevet to brevet_app;
