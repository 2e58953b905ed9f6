-- Deliveries to one destination with the same key are delivered in order. NULL: in any order.
ALTER TABLE deliveries ADD COLUMN order_key BLOB;

-- When the delivery was last retried or replayed by request, and how many attempts came before. NULL: never.
ALTER TABLE deliveries ADD COLUMN since_ms INTEGER;
ALTER TABLE deliveries ADD COLUMN earlier INTEGER;

-- A checksum of all columns except the body, which has a digest. It detects damage on the disk. NULL: an older row.
ALTER TABLE events ADD COLUMN checksum INTEGER;

-- One delivery of each key can be leased. The others are held: pending, with a due_ms that never comes
-- (ordering.py). Deliveries without a key are not in this index.
CREATE INDEX deliveries_ordered ON deliveries (destination, order_key, due_ms)
WHERE order_key IS NOT NULL AND due_ms IS NOT NULL;

-- The dead deliveries of all destinations by age. Those of one destination are in deliveries_dead.
CREATE INDEX deliveries_dead_by_event ON deliveries (status, event_seq) WHERE status = 'dead';

-- The reply of a destination to an event that was relayed to it within its request.
CREATE TABLE replies (
  event_seq INTEGER PRIMARY KEY REFERENCES events (seq) ON DELETE CASCADE,
  status INTEGER NOT NULL,
  -- A blob, because a header may hold bytes that are no UTF-8.
  content_type BLOB,
  body BLOB NOT NULL
) STRICT;

CREATE TABLE paused_destinations (
  destination TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
