-- Times ending in _ms are unix milliseconds: received_ms and since_ms by the clock of the gateway that received
-- the event, all others by the clock of this database. Applied migrations are never changed: a change is a new
-- file. There are no foreign keys: they would run a query for each row; a purge deletes what belongs together.

-- What was accepted, and the body as it was sent. Rows are written once and never updated. What a provider
-- writes is kept as bytes of UTF-8: text here refuses characters that JSON may hold.
CREATE TABLE events (
  -- A ULID of the time received: an insert appends, and a purge finds the old ones.
  id text COLLATE "C" PRIMARY KEY,
  source text COLLATE "C" NOT NULL,
  path bytea NOT NULL,
  provider text NOT NULL,
  external_id bytea NOT NULL,
  type bytea NOT NULL,
  time bytea NOT NULL,
  received_ms bigint NOT NULL,
  subject bytea,
  account bytea,
  content_type bytea,
  headers bytea NOT NULL,
  data_start integer,
  data_end integer,
  data_is_json smallint NOT NULL,
  -- SHA-256 of the body: tells a repetition from a conflict without reading the body.
  digest bytea NOT NULL,
  -- CRC-32 of all columns but the body: tells a row that was damaged on the disk.
  checksum bigint NOT NULL,
  document bytea,
  body bytea NOT NULL
);

-- Bodies are small, or compressed already, or not worth the time within which a provider is answered.
ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;

-- Outlives the events it names: a duplicate is still told the first one's id.
CREATE TABLE dedupe_keys (
  source text COLLATE "C" NOT NULL,
  place smallint NOT NULL,
  key bytea NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  -- Never null: that is how an insert finds that another gateway was faster.
  expires_ms bigint NOT NULL,
  PRIMARY KEY (source, place, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_cost_delay = 1);

-- For the purge.
CREATE INDEX dedupe_keys_expiry ON dedupe_keys (expires_ms);

CREATE TABLE deliveries (
  event_id text COLLATE "C" NOT NULL,
  destination text COLLATE "C" NOT NULL,
  status text NOT NULL CHECK (status IN ('pending', 'delivered', 'dead')),
  attempts integer NOT NULL,
  received_ms bigint NOT NULL,
  -- NULL unless it is pending. Never written with a time that has passed: a look for what is due begins where
  -- the last one found that nothing is left.
  due_ms bigint CHECK ((due_ms IS NOT NULL) = (status = 'pending')),
  -- Tells apart what came with one batch, which is due at one moment.
  place integer NOT NULL,
  -- In no index, like all that a lease changes, so that a lease writes no index.
  leased_until_ms bigint NOT NULL,
  -- The fencing token of the last lease.
  token bigint NOT NULL,
  last_reason text,
  last_http_status integer,
  updated_ms bigint NOT NULL,
  -- When a person asked for the delivery again, and how many attempts had been made by then. NULL: never.
  since_ms bigint,
  earlier integer,
  -- What the deliveries to one destination are put in order by; NULL for those that may overtake one another.
  order_key bytea,
  -- Their order.
  order_seq bigint,
  PRIMARY KEY (event_id, destination)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE SEQUENCE deliveries_order CACHE 1;

-- Only what is pending: small however much was delivered.
CREATE INDEX deliveries_pending ON deliveries (destination, due_ms, place) WHERE due_ms IS NOT NULL;

-- The dead of one destination by age, and those of all.
CREATE INDEX deliveries_dead ON deliveries (destination, event_id) WHERE status = 'dead';
CREATE INDEX deliveries_dead_by_event ON deliveries (event_id) WHERE status = 'dead';

-- Of each order key one runs. The others are held: pending, with a due_ms that never comes. Finds either, and
-- the first of those, however many are held.
CREATE INDEX deliveries_ordered ON deliveries (destination, order_key, due_ms, order_seq)
WHERE order_key IS NOT NULL AND due_ms IS NOT NULL;

-- What a destination answered to an event that was relayed to it within its request.
CREATE TABLE replies (
  event_id text COLLATE "C" PRIMARY KEY,
  status integer NOT NULL,
  content_type bytea,
  body bytea NOT NULL
);

CREATE TABLE paused_destinations (
  destination text COLLATE "C" PRIMARY KEY
);
