-- What was never attempted and is in the store alone: found without a walk over what failed before. A delivery
-- that goes by memory is leased when it comes, so it is never in here and costs nothing.
CREATE INDEX deliveries_new ON deliveries (destination, due_ms)
WHERE attempts = 0 AND leased_until_ms = 0 AND due_ms IS NOT NULL;
