"""What is written into docs/: the schema, the config tables, the pages of the providers, the API."""
