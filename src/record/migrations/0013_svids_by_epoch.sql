-- Up Migration
-- What a revocation killed is what was issued since the one before it: a task's SVIDs are found by their epoch. Within a
-- task they were issued in the order of their epochs, so that the newest still come first.
create index svids_task_epoch on svids (task, epoch, id) where task is not null;
drop index svids_task;
