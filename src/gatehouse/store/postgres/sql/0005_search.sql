-- The columns that operators search by, behind the id: a search in the order of the ids compares them in this
-- index alone. New rows go to its right end. An entry has to fit on a third of a page, so it has the start of
-- each value.
CREATE INDEX events_search ON events (
  id, source, substr(type, 1, 64), substr(external_id, 1, 64), substr(subject, 1, 64), substr(account, 1, 64)
);
