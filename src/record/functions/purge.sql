-- Retention, in pieces: each call removes `most` rows at most, so that no backlog meets a time limit. How long is
-- kept is what the owner set; what a list or the feed may still need is younger by a day at least, because no SVID
-- lives longer than a day and no revocation is kept for less than its `until`.
-- What others rest on goes last: a revocation only after all SVIDs of its time, a task only without either, an
-- instance only without tasks. Of two brokers one removes, the other finds nothing to do.
create function purge(most integer) returns table (what text, removed bigint)
language plpgsql volatile security definer set search_path = brevet, pg_temp as $$
#variable_conflict use_column
declare
  bound timestamptz := clock_timestamp() - greatest((select retention from settings), interval '2 days');
  idle uuid[];
begin
  if not pg_try_advisory_xact_lock(7221, 2) then return; end if;
  perform set_config('brevet.purged_before', bound::text, true);

  delete from svids where ctid = any (array(select ctid from svids where expires_at < bound order by expires_at limit most));
  get diagnostics removed = row_count; what := 'svids'; return next; most := most - removed;

  delete from revocations where ctid = any (array(select ctid from revocations where until < bound order by until limit most));
  get diagnostics removed = row_count; what := 'revocations'; return next; most := most - removed;

  delete from attestations where ctid = any (array(select ctid from attestations where at < bound order by at limit most));
  get diagnostics removed = row_count; what := 'attestations'; return next; most := most - removed;

  delete from entries where ctid = any (array(select ctid from entries where at < bound order by at limit most));
  get diagnostics removed = row_count; what := 'entries'; return next; most := most - removed;

  delete from status_lists where ctid = any (array(select ctid from status_lists where until < bound order by until limit most));
  get diagnostics removed = row_count; what := 'status lists'; return next; most := most - removed;

  -- a day and a little later, all that may be left of a task's SVIDs and revocations is past the bound, too
  delete from tasks where id = any (array(select t.id from tasks t where t.ended_at < bound - interval '25 hours'
    and not exists (select from svids s where s.task = t.id) and not exists (select from revocations r where r.subject = t.id::text)
    order by t.ended_at limit most));
  get diagnostics removed = row_count; what := 'tasks'; return next; most := most - removed;

  -- locked by a statement of its own: what claimed meanwhile is seen by the next
  idle := array(select i.id from instances i where i.created_at < bound and not exists (select from tasks t where t.instance = i.id)
    order by i.created_at limit most for update of i skip locked);
  delete from instances i where i.id = any (idle) and not exists (select from tasks t where t.instance = i.id);
  get diagnostics removed = row_count; what := 'instances'; return next;

  perform set_config('brevet.purged_before', '', true);
end $$;
