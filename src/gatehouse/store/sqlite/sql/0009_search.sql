-- The columns that operators search by, behind the id: a search in the order of the ids reads this index alone.
-- New rows go to its right end, as they did in the index on the id that it replaces.
CREATE INDEX events_search ON events (id, source, type, external_id, subject, account);
DROP INDEX events_id;
