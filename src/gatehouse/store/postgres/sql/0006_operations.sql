-- Replays and retries of many events. The filter, and the destinations (NULL: those that had the event), are
-- JSON. The position is how far a gateway has processed it. started_ms and ended_ms are by the clock of this
-- database.
CREATE TABLE operations (
  id text COLLATE "C" PRIMARY KEY,
  kind text NOT NULL,
  filter text NOT NULL,
  destinations text,
  rate double precision NOT NULL,
  state text NOT NULL,
  total bigint NOT NULL,
  done bigint NOT NULL,
  failed bigint NOT NULL,
  requested_by text NOT NULL,
  started_ms bigint NOT NULL,
  ended_ms bigint,
  position text COLLATE "C" NOT NULL,
  -- The gateway that runs it, and until when no other one may take it.
  owner text,
  leased_until_ms bigint NOT NULL DEFAULT 0
);

-- The roles that may use the events may use this table too.
DO $$
DECLARE
  right_on_events record;
BEGIN
  FOR right_on_events IN
    SELECT DISTINCT grantee.rolname, acl.privilege_type
    FROM pg_class AS events, aclexplode(events.relacl) AS acl
    JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    WHERE events.oid = 'events'::regclass AND grantee.oid <> events.relowner
      AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON operations TO %I', right_on_events.privilege_type, right_on_events.rolname);
  END LOOP;
END
$$;
