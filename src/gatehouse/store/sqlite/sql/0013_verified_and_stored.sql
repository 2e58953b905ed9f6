-- How the request of an event was verified, and when the transaction that holds the event was written. Events from
-- before have neither. The rows stay as they are.
ALTER TABLE events ADD COLUMN verified_by TEXT;
ALTER TABLE events ADD COLUMN stored_ms INTEGER;
