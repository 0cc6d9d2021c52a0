-- Netstrings of key and value, keys in byte order: `4:user5:alice`. SHA-256, lower-case hex.
-- One row, so that it becomes a part of the statement that asks: a function called for each row costs more than its hash.
create function context_digest(context jsonb) returns table (digest text) language sql immutable as $$
  select encode(sha256(convert_to(coalesce(string_agg(
    octet_length(key) || ':' || key || octet_length(context ->> key) || ':' || (context ->> key), '' order by key collate "C"), ''), 'UTF8')), 'hex')
  from (select jsonb_object_keys(context) as key) k
$$;
