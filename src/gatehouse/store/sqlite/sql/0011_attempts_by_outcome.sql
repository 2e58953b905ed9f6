-- Find the events and deliveries of which an attempt had a reason or an HTTP status. Only attempts that are stored
-- pay for them: most deliveries have none.
CREATE INDEX attempts_by_reason ON attempts (reason, event_seq);
CREATE INDEX attempts_by_http_status ON attempts (http_status, event_seq) WHERE http_status IS NOT NULL;

-- The last attempt of each dead letter from before attempts were stored.
INSERT OR IGNORE INTO attempts (event_seq, destination, number, at_ms, reason, http_status)
SELECT event_seq, destination, attempts, updated_ms, last_reason, last_http_status
FROM deliveries INDEXED BY deliveries_dead_by_event
WHERE status = 'dead' AND attempts > 0 AND last_reason IS NOT NULL AND last_reason <> 'corrupt';
