-- What the deliveries to one destination are put in order by; NULL for those that may overtake one another.
ALTER TABLE deliveries ADD COLUMN order_key BLOB;

-- When a person asked for the delivery again, and how many attempts had been made by then. NULL: never.
ALTER TABLE deliveries ADD COLUMN since_ms INTEGER;
ALTER TABLE deliveries ADD COLUMN earlier INTEGER;

-- Of all columns but the body, which has digest: tells a row that was damaged on the disk. NULL: of before.
ALTER TABLE events ADD COLUMN checksum INTEGER;

-- Of each key one delivery runs. The others are held: pending, with a due_ms that never comes (ordering.py).
-- Nothing is in it of deliveries without a key.
CREATE INDEX deliveries_ordered ON deliveries (destination, order_key, due_ms)
WHERE order_key IS NOT NULL AND due_ms IS NOT NULL;

-- The dead of all destinations by age; those of one are in deliveries_dead.
CREATE INDEX deliveries_dead_by_event ON deliveries (status, event_seq) WHERE status = 'dead';

-- What a destination answered to an event that was relayed to it within its request.
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
