-- How the request of an event was verified, and when the transaction that holds the event was written, in the time of
-- the gateway that wrote it, as received_ms is. Events from before have neither. The rows stay as they are.
ALTER TABLE events ADD COLUMN verified_by text, ADD COLUMN stored_ms bigint;
