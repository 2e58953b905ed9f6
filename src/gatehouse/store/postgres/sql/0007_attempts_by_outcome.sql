-- Find the events and deliveries of which an attempt had a reason or an HTTP status. Only attempts that are stored
-- pay for them: most deliveries have none.
CREATE INDEX attempts_by_reason ON attempts (reason, event_id);
CREATE INDEX attempts_by_http_status ON attempts (http_status, event_id) WHERE http_status IS NOT NULL;

-- The last attempt of each dead letter from before attempts were stored.
INSERT INTO attempts (event_id, destination, number, at_ms, reason, http_status)
SELECT event_id, destination, attempts, updated_ms, last_reason, last_http_status
FROM deliveries
WHERE status = 'dead' AND attempts > 0 AND last_reason IS NOT NULL AND last_reason <> 'corrupt'
ON CONFLICT (event_id, destination, number) DO NOTHING;
