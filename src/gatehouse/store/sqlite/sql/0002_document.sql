-- The JSON that was read from a body that is not JSON itself, such as a form. NULL for all other bodies.
ALTER TABLE events ADD COLUMN document BLOB;
