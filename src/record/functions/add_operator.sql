-- An operator, new or once more. With `p_replace` one that is there becomes what is given, and its certificates
-- until now are dead. verdict: added | replaced | exists
create function add_operator(p_name text, p_role text, p_agents text[], p_ttl integer, p_replace boolean, p_by text)
returns table (verdict text, epoch bigint, sequence bigint, until timestamptz, at timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
  o operators;
  gone record;
begin
  insert into operators (name, role, agents, ttl, added_at, added_by) values (p_name, p_role, p_agents, p_ttl, clock_timestamp(), p_by)
    on conflict (name) do nothing;
  if found then
    perform log_entry(clock_timestamp(), 'operator.added', null, null, p_by, jsonb_build_object('operator', p_name, 'role', p_role, 'agents', p_agents, 'ttl', p_ttl));
    return query select 'added', 1::bigint, null::bigint, null::timestamptz, null::timestamptz; return;
  end if;
  select * into o from operators x where x.name = p_name for update;
  stamp := clock_timestamp();
  if o.removed_at is null and not p_replace then
    return query select 'exists', o.epoch, null::bigint, null::timestamptz, null::timestamptz; return;
  end if;
  if o.removed_at is null then
    select * into gone from end_operator_epoch(p_name, stamp);
  end if;
  update operators x set role = p_role, agents = p_agents, ttl = p_ttl, added_at = stamp, added_by = p_by,
    removed_at = null, removed_by = null, removed_reason = null where x.name = p_name returning * into o;
  perform log_entry(stamp, 'operator.added', null, null, p_by, jsonb_build_object('operator', p_name, 'role', p_role, 'agents', p_agents, 'ttl', p_ttl, 'epoch', o.epoch));
  if gone is null then return query select 'added', o.epoch, null::bigint, null::timestamptz, null::timestamptz; return; end if;
  return query select 'replaced', o.epoch, gone.sequence, gone.until, stamp;
end $$;
