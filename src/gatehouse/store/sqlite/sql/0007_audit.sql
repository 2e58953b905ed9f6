-- The changes that operators made.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  who TEXT NOT NULL,
  role TEXT NOT NULL,
  action TEXT NOT NULL,
  -- JSON: what was changed.
  what TEXT NOT NULL,
  count INTEGER NOT NULL
) STRICT;

-- Finds the expired entries.
CREATE INDEX audit_at ON audit (at_ms);
