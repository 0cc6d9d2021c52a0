-- Up Migration
-- SVIDs of the reserved identities under /brevet: the brokers' own, and operators' certificates. They have
-- no task; their subject is the path of their SPIFFE ID, and the ledger, the feed and the lists treat it
-- as they treat `service/<name>`.

alter table svids add column subject text;
alter table svids drop constraint svids_check;
alter table svids add constraint svids_one_holder check (num_nonnulls(task, service, subject) = 1);
create index svids_subject on svids (subject) where subject is not null;
