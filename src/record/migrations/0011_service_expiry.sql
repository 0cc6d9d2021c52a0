-- Up Migration
-- Which of a service's SVIDs are alive is asked at each revocation, and it may have had a million.
create index svids_service_expiry on svids (service, expires_at) where service is not null;
drop index svids_service;
