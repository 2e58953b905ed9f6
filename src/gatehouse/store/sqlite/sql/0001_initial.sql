-- Times are unix milliseconds. Applied migrations are never changed: a change is a new file.

-- What was accepted, and the body as it was sent. Rows are written once and never updated.
CREATE TABLE events (
  -- Counted by the one writer: new rows go to the right end of the table, and rows of deliveries that belong
  -- to it repeat 4 bytes instead of a 26-byte id.
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  path TEXT NOT NULL,
  provider TEXT NOT NULL,
  external_id TEXT NOT NULL,
  type TEXT NOT NULL,
  time TEXT NOT NULL,
  received_ms INTEGER NOT NULL,
  subject TEXT,
  account TEXT,
  -- A blob, because a header may hold bytes that are no UTF-8. In headers, a JSON array, they are escaped.
  content_type BLOB,
  headers TEXT NOT NULL,
  data_start INTEGER,
  data_end INTEGER,
  data_is_json INTEGER NOT NULL,
  -- SHA-256 of the body: tells a repetition from a conflict without reading the body.
  digest BLOB NOT NULL,
  -- Last, so that the other columns are read without following a long body's overflow pages.
  body BLOB NOT NULL
) STRICT;

-- Ids are ULIDs of the time received: an insert appends here too, and a purge finds the old ones without an
-- index on received_ms, which every insert would have to pay for.
CREATE UNIQUE INDEX events_id ON events (id);

-- Outlives the events it names: a duplicate is still told the first one's id.
CREATE TABLE dedupe_keys (
  source TEXT NOT NULL,
  place INTEGER NOT NULL,
  key BLOB NOT NULL,
  event_id TEXT NOT NULL,
  expires_ms INTEGER NOT NULL,
  PRIMARY KEY (source, place, key)
) STRICT, WITHOUT ROWID;

-- For the purge. It grows at its right end, since keys of one source expire in the order they come.
CREATE INDEX dedupe_keys_expiry ON dedupe_keys (expires_ms);

CREATE TABLE deliveries (
  event_seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
  destination TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'dead')),
  attempts INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  -- When it can be leased next, so the end of the lease while it is leased; NULL unless it is pending.
  due_ms INTEGER CHECK ((due_ms IS NOT NULL) = (status = 'pending')),
  -- The fencing token while it is leased; 0 when it is not.
  leased_until_ms INTEGER NOT NULL,
  last_reason TEXT,
  last_http_status INTEGER,
  updated_ms INTEGER NOT NULL,
  -- In the order of the events, so that the deliveries of a batch are neighbours on one page.
  PRIMARY KEY (event_seq, destination)
) STRICT, WITHOUT ROWID;

-- Only what is pending: small however much was delivered. Leasing and next_due read its left end; counts and
-- the recovery after a crash read nothing but it, which is what leased_until_ms is in it for. The condition is
-- on due_ms, not on status: a condition on a column that is not in the index would make them read the table.
CREATE INDEX deliveries_pending ON deliveries (destination, due_ms, leased_until_ms)
WHERE due_ms IS NOT NULL;

CREATE INDEX deliveries_dead ON deliveries (status, destination) WHERE status = 'dead';
