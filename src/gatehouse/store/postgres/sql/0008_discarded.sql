-- Why an operator discarded a dead delivery, and who did.
ALTER TABLE deliveries ADD COLUMN note bytea, ADD COLUMN discarded_by text;

-- One more status. The rows that exist meet the condition, so they are not read.
ALTER TABLE deliveries DROP CONSTRAINT deliveries_status_check;
ALTER TABLE deliveries ADD CONSTRAINT deliveries_status_check
  CHECK (status IN ('pending', 'delivered', 'dead', 'discarded')) NOT VALID;
