-- Up Migration
-- What the newest list of an authority covers, whoever signed it: brokers that make the list of one number
-- make the same list, and none makes one that knows less.

alter table authorities
  -- of the feed: the list holds what revocations up to here killed
  add column crl_sequence bigint not null default 0,
  add column crl_at timestamptz,
  -- it holds what had not expired here
  add column crl_since timestamptz;
