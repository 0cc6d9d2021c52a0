-- Up Migration
-- What a task is bound to may be left to its claim: whether its opener named no scope.

alter table tasks add column scope_left boolean not null default false;
