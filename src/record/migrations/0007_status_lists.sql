-- Up Migration
-- OAuth Token Status Lists. A list is used by one broker for an hour and for no index twice; which broker, nobody
-- needs to know. An index of a list is one number: list * 2^17 + index.

create table status_lists (
  id bigint generated always as identity primary key,
  -- no token that names it can be valid any more
  until timestamptz not null
);
create index status_lists_until on status_lists (until);
alter table svids add column status bigint;

grant select, insert on status_lists to brevet_app;
grant usage on all sequences in schema brevet to brevet_app;
