-- Netstrings of key and value, keys in byte order: `4:user5:alice`. SHA-256, lower-case hex.
create function context_digest(context jsonb) returns text language sql immutable as $$
  select encode(sha256(convert_to(coalesce(string_agg(
    octet_length(key) || ':' || key || octet_length(value) || ':' || value, '' order by key collate "C"), ''), 'UTF8')), 'hex')
  from jsonb_each_text(context)
$$;
