-- A dedupe key used to be told by its place in `dedupe.by`, from 0 on. Now its place is -1, and its first 8
-- bytes name its scope: what it is made of. The rows of before stay as they are, since there may be millions.
-- Here stands which scopes they may be of. Each gateway that starts writes it for the sources that it has and
-- that are not here yet, while there are such rows; '' stands for all, and is the last to go.
CREATE TABLE dedupe_places (
  source text COLLATE "C" NOT NULL,
  place smallint NOT NULL,
  scope bytea NOT NULL,
  -- For an hour from when the schema was changed, gateways of the version before may run still.
  added timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, place, scope)
);

INSERT INTO dedupe_places (source, place, scope)
SELECT '', 0, '' WHERE EXISTS (SELECT 1 FROM dedupe_keys);

-- Whoever may use the keys may use this.
DO $$
DECLARE
  right_on_keys record;
BEGIN
  FOR right_on_keys IN
    SELECT DISTINCT grantee.rolname, acl.privilege_type
    FROM pg_class AS keys, aclexplode(keys.relacl) AS acl
    JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
    WHERE keys.oid = 'dedupe_keys'::regclass AND grantee.oid <> keys.relowner
      AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE format('GRANT %s ON dedupe_places TO %I', right_on_keys.privilege_type, right_on_keys.rolname);
  END LOOP;
END
$$;
