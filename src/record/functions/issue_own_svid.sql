-- The first transaction for a broker's own certificate: its row and its log entry, before it is signed.
create function issue_own_svid(p_serial text, p_seconds integer, x509_authority text, x509_not_after timestamptz)
returns table (issued_at timestamptz, expires_at timestamptz) language plpgsql volatile as $$
declare
  stamp timestamptz := clock_timestamp();
  ends timestamptz := least(stamp + make_interval(secs => p_seconds), x509_not_after);
begin
  insert into svids (kind, serial, subject, epoch, authority, issued_at, expires_at)
    values ('x509', p_serial, 'brevet/broker', 1, x509_authority, stamp, ends);
  perform log_entry(stamp, 'svid.issued', null, null, 'brevet', jsonb_build_object(
    'subject', 'brevet/broker', 'kind', 'x509', 'serial', p_serial, 'epoch', 1, 'expires', ends));
  return query select stamp, ends;
end $$;
