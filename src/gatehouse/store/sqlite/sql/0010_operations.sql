-- Replays and retries of many events. The filter, and the destinations (NULL: those that had the event), are
-- JSON. The position is how far a gateway has processed it.
CREATE TABLE operations (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  filter TEXT NOT NULL,
  destinations TEXT,
  rate REAL NOT NULL,
  state TEXT NOT NULL,
  total INTEGER NOT NULL,
  done INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  requested_by TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  ended_ms INTEGER,
  position TEXT NOT NULL,
  -- The process that runs it.
  owner TEXT
) STRICT, WITHOUT ROWID;
