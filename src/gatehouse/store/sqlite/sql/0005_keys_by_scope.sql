-- A dedupe key used to be told by its place in `dedupe.by`, from 0 on. Now its place is -1, and its first 8
-- bytes name its scope: what it is made of. The rows of before stay as they are, since there may be millions.
-- Here stands which scopes they may be of. Each gateway that starts writes it for the sources that it has and
-- that are not here yet, while there are such rows; '' stands for all, and is the last to go.
CREATE TABLE dedupe_places (
  source TEXT NOT NULL,
  place INTEGER NOT NULL,
  scope BLOB NOT NULL,
  PRIMARY KEY (source, place, scope)
) STRICT, WITHOUT ROWID;

INSERT INTO dedupe_places SELECT '', 0, x'' WHERE EXISTS (SELECT 1 FROM dedupe_keys);
