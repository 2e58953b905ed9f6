-- Before this version, a dedupe key was identified by its place in `dedupe.by`, starting with 0. Now its place is
-- -1, and its first 8 bytes name its scope, the template that it was made from. Older rows are not rewritten,
-- because there may be millions. This table lists the scopes that they may have. While there are such rows, each
-- gateway that starts adds the sources of its config that are missing here. '' stands for all sources, and is
-- removed last.
CREATE TABLE dedupe_places (
  source TEXT NOT NULL,
  place INTEGER NOT NULL,
  scope BLOB NOT NULL,
  PRIMARY KEY (source, place, scope)
) STRICT, WITHOUT ROWID;

INSERT INTO dedupe_places SELECT '', 0, x'' WHERE EXISTS (SELECT 1 FROM dedupe_keys);
