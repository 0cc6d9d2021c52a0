-- Part of two transactions, with the operator's row locked: epoch + 1, so all its certificates until now are dead.
create function end_operator_epoch(p_name text, stamp timestamptz)
returns table (epoch bigint, sequence bigint, until timestamptz) language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_subject text := 'brevet/operator/' || p_name;
begin
  update operators x set epoch = x.epoch + 1 where x.name = p_name returning x.epoch into epoch;
  select greatest(stamp, max(v.expires_at)) + interval '120 seconds' into until from svids v where v.subject = v_subject;
  update feed_head h set sequence = h.sequence + 1 returning h.sequence into sequence;
  insert into revocations (sequence, subject, epoch, until, at) values (sequence, v_subject, epoch, until, stamp);
  perform pg_notify('brevet', 'feed');
  return next;
end $$;
