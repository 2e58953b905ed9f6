-- Deliveries that were never attempted and that no process has in memory. A lease finds them without scanning
-- failed ones. A delivery that is handed over in memory is leased on arrival, so it costs nothing here.
CREATE INDEX deliveries_new ON deliveries (destination, due_ms)
WHERE attempts = 0 AND leased_until_ms = 0 AND due_ms IS NOT NULL;
