-- The JSON that was read out of a body that is none itself, as that of a form. NULL for all others.
ALTER TABLE events ADD COLUMN document BLOB;
