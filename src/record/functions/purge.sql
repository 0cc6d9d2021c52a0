-- Retention. What a list or the feed may still need is younger than `before` by a day at least,
-- because no SVID lives longer than a day and no revocation is kept for less than its `until`.
create function purge(before timestamptz) returns table (what text, removed bigint)
language plpgsql volatile security definer set search_path = brevet, pg_temp as $$
#variable_conflict use_column
declare
  bound timestamptz := least(before, clock_timestamp() - interval '2 days');
  n bigint;
begin
  delete from svids where expires_at < bound; get diagnostics n = row_count;
  what := 'svids'; removed := n; return next;
  delete from revocations where until < bound; get diagnostics n = row_count;
  what := 'revocations'; removed := n; return next;
  delete from attestations where at < bound; get diagnostics n = row_count;
  what := 'attestations'; removed := n; return next;
  delete from entries where at < bound; get diagnostics n = row_count;
  what := 'entries'; removed := n; return next;
  delete from status_lists where until < bound; get diagnostics n = row_count;
  what := 'status lists'; removed := n; return next;
end $$;
