-- Why an operator discarded a dead delivery, and who did.
ALTER TABLE deliveries ADD COLUMN note TEXT;
ALTER TABLE deliveries ADD COLUMN discarded_by TEXT;

-- One more status. The rows stay as they are (https://sqlite.org/lang_altertable.html, 7: changes that don't
-- affect the content).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(
  sql,
  'status = ''delivered'' OR status = ''dead''',
  'status = ''delivered'' OR status = ''dead'' OR status = ''discarded'''
)
WHERE type = 'table' AND name = 'deliveries';
PRAGMA writable_schema = RESET;
