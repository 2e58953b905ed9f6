"""What is written into docs/: the schema, the tables of the config, the pages of the providers."""
