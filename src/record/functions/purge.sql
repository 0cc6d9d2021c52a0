-- Retention, in pieces: each call removes `most` rows at most, so that no backlog meets a time limit. How long is
-- kept is what the owner set; what a list or the feed may still need is younger by a day at least, because no SVID
-- lives longer than a day and no revocation is kept for less than its `until`.
-- What others rest on goes last: a revocation only after all SVIDs of its time. Of two brokers one removes, the
-- other finds nothing to do.
create function purge(most integer) returns table (what text, removed bigint)
language plpgsql volatile security definer set search_path = brevet, pg_temp as $$
#variable_conflict use_column
declare
  bound timestamptz := clock_timestamp() - greatest((select retention from settings), interval '2 days');
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
  get diagnostics removed = row_count; what := 'status lists'; return next;

  perform set_config('brevet.purged_before', '', true);
end $$;
