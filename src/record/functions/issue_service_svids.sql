-- The first transaction for services: their row is locked just as a task's.
create function issue_service_svids(
  r_service text[], r_kind text[], r_serial text[], r_audiences jsonb, r_instance text[],
  x509_authority text, x509_not_after timestamptz, jwt_authority text, jwt_not_after timestamptz
) returns table (ord bigint, verdict text, epoch bigint, issued_at timestamptz, expires_at timestamptz)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform 1 from services s where s.name = any (r_service) order by s.name for share;
  stamp := clock_timestamp();
  return query
  with judged as materialized (
    select r.ord, r.kind, r.serial, r.service, r.instance, s.epoch,
      case when s.name is null or not s.registered then 'gone' else 'ok' end as verdict,
      coalesce((select array_agg(a) from jsonb_array_elements_text(r_audiences -> (r.ord - 1)::int) a), '{}') as audiences,
      date_trunc('second', case r.kind when 'x509' then least(stamp + make_interval(secs => (s.definition ->> 'x509Ttl')::int), x509_not_after)
                                       else least(stamp + make_interval(secs => (s.definition ->> 'jwtTtl')::int), jwt_not_after) end) as expires_at
    from unnest(r_service, r_kind, r_serial, r_instance) with ordinality as r(service, kind, serial, instance, ord)
    left join services s on s.name = r.service
  ), recorded as (
    insert into svids (kind, serial, service, epoch, authority, audiences, issued_at, expires_at)
    select j.kind, j.serial, j.service, j.epoch,
      case j.kind when 'x509' then x509_authority else jwt_authority end, j.audiences, stamp, j.expires_at
    from judged j where j.verdict = 'ok' order by j.ord
  ), bodies as (
    select jsonb_build_object('at', to_char(stamp at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'kind', 'svid.issued', 'actor', j.instance, 'details', jsonb_build_object('service', j.service, 'kind', j.kind,
        'serial', j.serial, 'epoch', j.epoch, 'audiences', j.audiences, 'expires', j.expires_at)) as body
    from judged j where j.verdict = 'ok' order by j.ord
  ), logged as (
    insert into entries (at, kind, actor, body, digest)
    select stamp, 'svid.issued', b.body ->> 'actor', b.body, sha256(convert_to(b.body::text, 'UTF8')) from bodies b
  )
  select j.ord, j.verdict, j.epoch, stamp, j.expires_at from judged j;
end $$;
