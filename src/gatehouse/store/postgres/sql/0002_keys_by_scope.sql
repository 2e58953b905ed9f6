-- Before this version, a dedupe key was identified by its place in `dedupe.by`, starting with 0. Now its place is
-- -1, and its first 8 bytes name its scope, the template that it was made from. Older rows are not rewritten,
-- because there may be millions. This table lists the scopes that they may have. While there are such rows, each
-- gateway that starts adds the sources of its config that are missing here. '' stands for all sources, and is
-- removed last.
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

-- The roles that may use the keys may use this table.
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
