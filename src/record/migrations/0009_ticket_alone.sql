-- Up Migration
-- Who has a ticket need not know whose it is: the task is found by it.

create index tasks_ticket_index on tasks (ticket_hash) where ticket_hash is not null;
