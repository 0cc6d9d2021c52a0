-- Up Migration
-- The tables, and the functions that are the two transactions. Every time is PostgreSQL's own.
-- Inside a volatile function each statement has a snapshot of its own: locking comes first, and
-- what is judged after it is read by a later statement, so it is what the lock protects.
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

-- Netstrings of key and value, keys in byte order: `4:user5:alice`. SHA-256, lower-case hex.
create function context_digest(context jsonb) returns text language sql immutable as $$
  select encode(sha256(convert_to(coalesce(string_agg(
    octet_length(key) || ':' || key || octet_length(value) || ':' || value, '' order by key collate "C"), ''), 'UTF8')), 'hex')
  from jsonb_each_text(context)
$$;

-- One line of the record. The digest covers the stored body, which repeats all columns.
create function log_entry(at timestamptz, kind text, task uuid, agent text, actor text, details jsonb)
returns bigint language sql volatile as $$
  with e as (select jsonb_strip_nulls(jsonb_build_object(
    'at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'kind', kind, 'task', task, 'agent', agent, 'actor', actor, 'details', details)) as body)
  insert into entries (at, kind, task, agent, actor, body, digest)
  select at, kind, task, agent, actor, body, sha256(convert_to(body::text, 'UTF8')) from e
  returning id
$$;

-- Fairness between brokers: a waiting exclusive lock makes every later try of a shared one fail,
-- so a task that is being ended is not kept busy by fetches, whoever serves them.
create function task_fence(id uuid) returns bigint language sql immutable as $$
  select hashtextextended(id::text, 7221)
$$;

-- The first transaction. One row of the answer for each request, by its ordinal.
-- verdict: ok | blocked (being changed now: try the next batch) | gone | ended | not_bound
create function issue_svids(
  r_task uuid[], r_instance uuid[], r_kind text[], r_serial text[], r_audiences jsonb,
  x509_authority text, x509_not_after timestamptz, jwt_authority text, jwt_not_after timestamptz
) returns table (
  ord bigint, verdict text, agent text, epoch bigint, context_digest text, on_behalf_of text,
  issued_at timestamptz, expires_at timestamptz, state text, task_expires_at timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  locked uuid[];
  stamp timestamptz;
begin
  select array_agg(l.id) into locked from (
    select t.id from tasks t
    where t.id in (select f.id from (select distinct unnest(r_task) as id order by 1) f
                   where pg_try_advisory_xact_lock_shared(task_fence(f.id)))
    order by t.id for share skip locked
  ) l;
  stamp := clock_timestamp();
  return query
  with judged as materialized (
    select r.ord, r.kind, r.serial, r.task as task_id, r.instance as r_instance, t.agent, t.epoch, t.context_digest,
      t.on_behalf_of, t.expires_at as task_expires_at, t.state,
      case when t.id is null then 'gone'
           when not (t.id = any (locked)) or locked is null then 'blocked'
           when t.state <> 'active' or t.expires_at <= stamp then 'ended'
           when t.instance is distinct from r.instance then 'not_bound'
           else 'ok' end as verdict,
      coalesce((select array_agg(a) from jsonb_array_elements_text(r_audiences -> (r.ord - 1)::int) a), '{}') as audiences,
      case r.kind when 'x509' then least(stamp + make_interval(secs => t.x509_ttl), t.expires_at, x509_not_after)
                  else least(stamp + make_interval(secs => t.jwt_ttl), t.expires_at, jwt_not_after) end as expires_at
    from unnest(r_task, r_instance, r_kind, r_serial) with ordinality as r(task, instance, kind, serial, ord)
    left join tasks t on t.id = r.task
  ), recorded as (
    insert into svids (kind, serial, task, epoch, instance, authority, audiences, issued_at, expires_at)
    select j.kind, j.serial, j.task_id, j.epoch, j.r_instance,
      case j.kind when 'x509' then x509_authority else jwt_authority end, j.audiences, stamp, j.expires_at
    from judged j where j.verdict = 'ok' order by j.ord
  ), bodies as (
    select j.task_id, j.agent, jsonb_build_object(
      'at', to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'kind', 'svid.issued', 'task', j.task_id, 'agent', j.agent, 'actor', 'instance ' || j.r_instance,
      'details', jsonb_build_object('kind', j.kind, 'serial', j.serial, 'epoch', j.epoch,
        'audiences', j.audiences, 'expires', j.expires_at)) as body
    from judged j where j.verdict = 'ok' order by j.ord
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, 'svid.issued', b.task_id, b.agent, b.body ->> 'actor', b.body, sha256(convert_to(b.body::text, 'UTF8'))
    from bodies b
  )
  select j.ord, j.verdict, j.agent, j.epoch, j.context_digest, j.on_behalf_of, stamp, j.expires_at,
    case when j.state in ('ready', 'active') and j.task_expires_at <= stamp then 'expired' else j.state end, j.task_expires_at
  from judged j;
end $$;

-- The first transaction for services: their row is locked just as a task's.
create function issue_service_svids(
  r_service text[], r_kind text[], r_serial text[], r_audiences jsonb, r_instance text[],
  x509_authority text, x509_not_after timestamptz, jwt_authority text, jwt_not_after timestamptz
) returns table (ord bigint, verdict text, epoch bigint, issued_at timestamptz, expires_at timestamptz)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform 1 from services s where s.name = any (r_service) order by s.name for share;
  stamp := clock_timestamp();
  return query
  with judged as materialized (
    select r.ord, r.kind, r.serial, r.service, r.instance, s.epoch,
      case when s.name is null or not s.registered then 'gone' else 'ok' end as verdict,
      coalesce((select array_agg(a) from jsonb_array_elements_text(r_audiences -> (r.ord - 1)::int) a), '{}') as audiences,
      case r.kind when 'x509' then least(stamp + make_interval(secs => (s.definition ->> 'x509Ttl')::int), x509_not_after)
                  else least(stamp + make_interval(secs => (s.definition ->> 'jwtTtl')::int), jwt_not_after) end as expires_at
    from unnest(r_service, r_kind, r_serial, r_instance) with ordinality as r(service, kind, serial, instance, ord)
    left join services s on s.name = r.service
  ), recorded as (
    insert into svids (kind, serial, service, epoch, authority, audiences, issued_at, expires_at)
    select j.kind, j.serial, j.service, j.epoch,
      case j.kind when 'x509' then x509_authority else jwt_authority end, j.audiences, stamp, j.expires_at
    from judged j where j.verdict = 'ok' order by j.ord
  ), bodies as (
    select jsonb_build_object('at', to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'kind', 'svid.issued', 'actor', j.instance, 'details', jsonb_build_object('service', j.service, 'kind', j.kind,
        'serial', j.serial, 'epoch', j.epoch, 'audiences', j.audiences, 'expires', j.expires_at)) as body
    from judged j where j.verdict = 'ok' order by j.ord
  ), logged as (
    insert into entries (at, kind, actor, body, digest)
    select stamp, 'svid.issued', b.body ->> 'actor', b.body, sha256(convert_to(b.body::text, 'UTF8')) from bodies b
  )
  select j.ord, j.verdict, j.epoch, stamp, j.expires_at from judged j;
end $$;

-- The second transaction, for many tasks at once: each is ended (r_state set) or its context is
-- changed (r_state null). A task stands at most once in a batch. The feed's head is locked last.
-- verdict: ended | changed | unchanged | already (it was over) | gone
create function revoke_tasks(
  r_task uuid[], r_state text[], r_set jsonb[], r_remove jsonb[], r_reason text[], r_actor text[]
) returns table (
  ord bigint, task_id uuid, verdict text, state_before text, state text, epoch bigint, sequence bigint, until timestamptz
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform pg_advisory_xact_lock(task_fence(f.id)) from (select distinct unnest(r_task) as id order by 1) f;
  perform 1 from tasks t where t.id = any (r_task) order by t.id for update;
  stamp := clock_timestamp();
  return query
  with wished as (
    select r.*, t.agent, t.state as state_before, t.epoch as epoch_before, t.context as context_before, t.instance is not null as claimed,
      case when t.expires_at <= stamp then 'expired' else r.state end as to_state,
      case when r.state is null and t.expires_at > stamp
           then (t.context || r.changes) - array(select jsonb_array_elements_text(r.removals)) else t.context end as new_context,
      least(t.expires_at, stamp + make_interval(secs => greatest(t.x509_ttl, t.jwt_ttl))) + interval '120 seconds' as dead_after
    from unnest(r_task, r_state, r_set, r_remove, r_reason, r_actor) with ordinality
      as r(id, state, changes, removals, reason, actor, ord)
    left join tasks t on t.id = r.id
  ), judged as materialized (
    select w.*, case when w.agent is null then 'gone'
                     when w.state_before not in ('ready', 'active') then 'already'
                     when w.to_state is not null then 'ended'
                     when w.new_context = w.context_before then 'unchanged'
                     else 'changed' end as verdict
    from wished w
  ), decided as materialized (
    -- A task that nobody claimed has no SVIDs: nothing to tell the verifiers.
    select j.*, j.verdict in ('ended', 'changed') as moves, j.verdict in ('ended', 'changed') and j.claimed as told,
      case when j.to_state = 'expired' then 'brevet' else j.actor end as by_whom,
      case when j.to_state = 'expired' then 'expired' else j.reason end as because,
      j.epoch_before + case when j.verdict in ('ended', 'changed') then 1 else 0 end as epoch_after
    from judged j
  ), head as (
    update feed_head h set sequence = h.sequence + (select count(*) from decided d where d.told)
    where exists (select 1 from decided d where d.told) returning h.sequence
  ), placed as materialized (
    select d.*, case when d.told then h.sequence - count(*) filter (where d.told) over () +
        count(*) filter (where d.told) over (order by d.ord) end as place
    from decided d left join head h on true
  ), moved as (
    update tasks t set epoch = p.epoch_after, state = coalesce(p.to_state, t.state),
      context = p.new_context, context_digest = context_digest(p.new_context),
      ended_at = case when p.verdict = 'ended' then stamp end,
      ended_by = case when p.verdict = 'ended' then p.by_whom end,
      end_reason = case when p.verdict = 'ended' then p.because end,
      ticket_hash = case when p.verdict = 'ended' then null else t.ticket_hash end
    from placed p where t.id = p.id and p.moves
  ), told as (
    insert into revocations (sequence, subject, epoch, until, at)
    select p.place, p.id::text, p.epoch_after, p.dead_after, stamp from placed p where p.told order by p.place
  ), bodies as (
    select p.*, case when p.verdict = 'changed' then 'task.context_changed' else 'task.' || p.to_state end as kind,
      jsonb_build_object('at', to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'kind', case when p.verdict = 'changed' then 'task.context_changed' else 'task.' || p.to_state end,
        'task', p.id, 'agent', p.agent, 'actor', p.by_whom, 'details',
        case when p.verdict = 'changed'
             then jsonb_build_object('epoch', p.epoch_after, 'context', p.new_context, 'digest', context_digest(p.new_context))
             else jsonb_build_object('epoch', p.epoch_after, 'reason', p.because, 'before', p.state_before) end) as body
    from placed p where p.moves order by p.ord
  ), logged as (
    insert into entries (at, kind, task, agent, actor, body, digest)
    select stamp, b.kind, b.id, b.agent, b.by_whom, b.body, sha256(convert_to(b.body::text, 'UTF8')) from bodies b order by b.ord
  )
  select p.ord, p.id, p.verdict, p.state_before,
    case when p.verdict = 'ended' then p.to_state else p.state_before end, p.epoch_after, p.place, p.dead_after
  from placed p order by p.ord;
  perform pg_notify('brevet', 'feed');
end $$;

-- The second transaction for services: epoch + 1, so all SVIDs until now are dead.
create function revoke_services(names text[], because text, who text)
returns table (name text, epoch bigint, sequence bigint, until timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
  s record;
  head bigint;
  dead_after timestamptz;
begin
  perform 1 from services x where x.name = any (names) order by x.name for update;
  stamp := clock_timestamp();
  for s in update services x set epoch = x.epoch + 1 where x.name = any (names) returning x.* loop
    -- by its rows, not by the catalog's lifetimes: those may have been shortened since
    select greatest(stamp, max(v.expires_at)) + interval '120 seconds' into dead_after from svids v where v.service = s.name;
    perform log_entry(stamp, 'service.revoked', null, null, who, jsonb_build_object('service', s.name, 'epoch', s.epoch, 'reason', because));
    update feed_head h set sequence = h.sequence + 1 returning h.sequence into head;
    insert into revocations (sequence, subject, epoch, until, at) values (head, 'service/' || s.name, s.epoch, dead_after, stamp);
    name := s.name; epoch := s.epoch; sequence := head; until := dead_after;
    return next;
  end loop;
  if head is not null then perform pg_notify('brevet', 'feed'); end if;
end $$;

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

-- Claiming. A ticket is redeemed at most once: the row is locked, and the hash is gone with the claim.
-- verdict: claimed | repeated (same instance) | gone | ended | taken | ticket | too_many
create function claim_task(
  p_task uuid, p_ticket_hash bytea, p_instance uuid, p_boot text, p_pid integer, p_start text, p_dev text, p_ino text,
  p_uid bigint, p_gid bigint, p_facts jsonb, p_most integer, p_attempt uuid, p_by text
) returns table (verdict text, state text, instance_id uuid) language plpgsql volatile as $$
#variable_conflict use_column
declare
  t tasks;
  i uuid;
  held bigint;
  stamp timestamptz;
begin
  perform 1 from tasks x where x.id = p_task for update;
  select * into t from tasks x where x.id = p_task;
  if not found then return query select 'gone', null::text, null::uuid; return; end if;
  stamp := clock_timestamp();
  insert into instances (id, boot_id, pid, start_time, exe_dev, exe_ino, uid, gid, facts)
    values (p_instance, p_boot, p_pid, p_start, p_dev, p_ino, p_uid, p_gid, p_facts)
    on conflict (boot_id, pid, start_time) do nothing;
  select x.id into i from instances x where x.boot_id = p_boot and x.pid = p_pid and x.start_time = p_start for update;
  if t.state = 'active' and t.expires_at > stamp then
    return query select case when t.instance = i then 'repeated' else 'taken' end, t.state, i; return;
  end if;
  if t.state <> 'ready' or t.expires_at <= stamp then
    return query select 'ended', case when t.state = 'ready' then 'expired' else t.state end, i; return;
  end if;
  if t.bind = 'ticket' and (p_ticket_hash is null or t.ticket_hash is null
      or t.ticket_hash <> p_ticket_hash or t.ticket_expires_at <= stamp) then
    return query select 'ticket', t.state, i; return;
  end if;
  select count(*) into held from tasks x where x.instance = i and x.state = 'active' and x.expires_at > stamp;
  if held >= p_most then return query select 'too_many', t.state, i; return; end if;
  insert into attestations (attempt, at, outcome, pid, uid, gid, facts, task, instance)
    values (p_attempt, stamp, 'granted', p_pid, p_uid, p_gid, p_facts, p_task, i);
  update tasks x set state = 'active', instance = i, claimed_at = stamp, ticket_hash = null, ticket_expires_at = null
    where x.id = p_task;
  perform log_entry(stamp, 'task.claimed', p_task, t.agent, p_by,
    jsonb_build_object('instance', i, 'pid', p_pid, 'uid', p_uid, 'facts', p_facts));
  perform pg_notify('brevet', 'claim ' || p_pid);
  return query select 'claimed', 'active', i;
end $$;

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

-- Retention. What a list or the feed may still need is younger than `before` by a day at least,
-- because no SVID lives longer than a day and no revocation is kept for less than its `until`.
create function purge(before timestamptz) returns table (what text, removed bigint)
language plpgsql volatile security definer set search_path from current as $$
#variable_conflict use_column
declare
  bound timestamptz := least(before, clock_timestamp() - interval '2 days');
  n bigint;
begin
  delete from svids where expires_at < bound; get diagnostics n = row_count;
  what := 'svids'; removed := n; return next;
  delete from revocations where until < bound; get diagnostics n = row_count;
  what := 'revocations'; removed := n; return next;
  delete from attestations where at < bound; get diagnostics n = row_count;
  what := 'attestations'; removed := n; return next;
  delete from entries where at < bound; get diagnostics n = row_count;
  what := 'entries'; removed := n; return next;
end $$;

-- The broker's own role: what its statements need, and nothing else.
revoke all on all tables in schema brevet from public;
revoke all on all functions in schema brevet from public;
grant usage on schema brevet to brevet_app;
grant select on all tables in schema brevet to brevet_app;
grant insert on svids, attestations, revocations, entries, catalog_versions, tasks, agents, services, instances, authorities, trust to brevet_app;
grant update on tasks, agents, services, instances, authorities, trust, feed_head to brevet_app;
grant usage on all sequences in schema brevet to brevet_app;
grant execute on all functions in schema brevet to brevet_app;
