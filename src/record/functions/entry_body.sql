-- What one line of the record says, its columns included. `at` is a time as `entry_time` writes it.
create function entry_body(at text, kind text, task uuid, agent text, actor text, details jsonb) returns jsonb language sql stable as $$
  select jsonb_build_object('at', at, 'kind', kind, 'task', task, 'agent', agent, 'actor', actor, 'details', details)
$$;

create function entry_time(at timestamptz) returns text language sql stable as $$
  select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
