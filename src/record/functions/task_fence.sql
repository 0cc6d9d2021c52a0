-- Fairness between brokers: a waiting exclusive lock makes every later try of a shared one fail,
-- so a task that is being ended is not kept busy by fetches, whoever serves them.
create function task_fence(id uuid) returns bigint language sql immutable as $$
  select hashtextextended(id::text, 7221)
$$;
