-- One line of the record. The digest covers the stored body, which repeats all columns.
create function log_entry(at timestamptz, kind text, task uuid, agent text, actor text, details jsonb)
returns bigint language sql volatile as $$
  with e as (select jsonb_strip_nulls(entry_body(entry_time(at), kind, task, agent, actor, details)) as body)
  insert into entries (at, kind, task, agent, actor, body, digest)
  select at, kind, task, agent, actor, body, sha256(convert_to(body::text, 'UTF8')) from e
  returning id
$$;
