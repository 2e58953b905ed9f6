-- The attempts of deliveries, except those that were delivered at the first attempt: these list that attempt
-- from their own row, so that they cost no row here. Of a delivery with many attempts, the first and the last
-- ones are kept.
CREATE TABLE attempts (
  event_seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
  destination TEXT NOT NULL,
  number INTEGER NOT NULL,
  -- When it ended.
  at_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  http_status INTEGER,
  duration_ms INTEGER,
  -- One line that TLS, the name service or the connection reported.
  error TEXT,
  -- The start of the body of the reply.
  reply BLOB,
  PRIMARY KEY (event_seq, destination, number)
) STRICT, WITHOUT ROWID;

-- NULL: no attempt, or a version before this one made it.
ALTER TABLE deliveries ADD COLUMN last_duration_ms INTEGER;
