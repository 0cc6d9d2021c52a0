-- The second transaction for operators. No row: there is none of this name, or it was removed before.
create function remove_operator(p_name text, because text, who text)
returns table (epoch bigint, sequence bigint, until timestamptz, at timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  stamp timestamptz;
begin
  perform 1 from operators x where x.name = p_name and x.removed_at is null for update;
  if not found then return; end if;
  stamp := clock_timestamp();
  at := stamp;
  update operators x set removed_at = stamp, removed_by = who, removed_reason = because where x.name = p_name;
  select e.epoch, e.sequence, e.until into epoch, sequence, until from end_operator_epoch(p_name, stamp) e;
  perform log_entry(stamp, 'operator.removed', null, null, who, jsonb_build_object('operator', p_name, 'epoch', epoch, 'reason', because));
  return next;
end $$;
