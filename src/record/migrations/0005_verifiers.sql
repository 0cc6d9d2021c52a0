-- Up Migration
-- Who follows the feed at which broker, and up to where they have applied it: what people who revoke are
-- shown. It proves nothing and is known again as soon as verifiers connect, so it costs no log of writes.

create unlogged table verifier_brokers (
  broker text primary key,
  seen_at timestamptz not null   -- connected verifiers of this broker were so until then, at least
);

create unlogged table verifiers (
  id uuid not null,              -- chosen by the verifier itself
  who text not null,             -- whom the broker takes it for
  name text not null,
  broker text not null,
  pid integer not null,
  max_staleness_ms bigint not null,
  applied bigint not null,       -- sequence
  applied_at timestamptz,
  joined_at timestamptz not null,
  left_at timestamptz,
  primary key (id, who)
) with (fillfactor = 50);
create index verifiers_broker on verifiers (broker);

grant select, insert, update, delete on verifiers, verifier_brokers to brevet_app;
