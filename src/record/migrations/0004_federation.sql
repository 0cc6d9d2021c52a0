-- Up Migration
-- Bundles of other trust domains as they were fetched last: public keys only.

create table federated_bundles (
  trust_domain text not null,
  -- digest of how it is got: another endpoint, profile or first bundle begins anew
  source text not null,
  sequence bigint not null,
  document bytea not null,
  fetched_at timestamptz not null,
  primary key (trust_domain, source)
);
grant select, insert, update on federated_bundles to brevet_app;
