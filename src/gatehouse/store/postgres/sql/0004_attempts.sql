-- The attempts of deliveries, except those that were delivered at the first attempt: these list that attempt
-- from their own row, so that they cost no row here. Of a delivery with many attempts, the first and the last
-- ones are kept.
CREATE TABLE attempts (
  event_id text COLLATE "C" NOT NULL,
  destination text COLLATE "C" NOT NULL,
  number integer NOT NULL,
  -- When it ended.
  at_ms bigint NOT NULL,
  reason text NOT NULL,
  http_status integer,
  duration_ms integer,
  -- One line that TLS, the name service or the connection reported.
  error text,
  -- The start of the body of the reply.
  reply bytea,
  PRIMARY KEY (event_id, destination, number)
);

-- NULL: no attempt, or a version before this one made it.
ALTER TABLE deliveries ADD COLUMN last_duration_ms integer;

-- Whoever may use the deliveries may use this.
DO $$
DECLARE
  right_on_deliveries record;
BEGIN
  FOR right_on_deliveries IN
    SELECT DISTINCT grantee.rolname, acl.privilege_type
    FROM pg_class AS deliveries, aclexplode(deliveries.relacl) AS acl
    JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    WHERE deliveries.oid = 'deliveries'::regclass AND grantee.oid <> deliveries.relowner
      AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON attempts TO %I', right_on_deliveries.privilege_type, right_on_deliveries.rolname);
  END LOOP;
END
$$;
