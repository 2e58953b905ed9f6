-- The changes that operators made.
CREATE TABLE audit (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms bigint NOT NULL,
  who text NOT NULL,
  role text NOT NULL,
  action text NOT NULL,
  -- JSON: what was changed.
  what text NOT NULL,
  count integer NOT NULL
);

-- Finds the expired entries.
CREATE INDEX audit_at ON audit (at_ms);

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
    EXECUTE format('GRANT %s ON audit TO %I', right_on_events.privilege_type, right_on_events.rolname);
  END LOOP;
END
$$;
