"""The durable store: `base` defines the protocol `Store`, and sqlite/ and postgres/ implement it.

`backends` chooses the implementation that `store.url` names. `accepting`, `listing`, `rows`, `schema` and
`legacy_keys` contain what both implementations share. copying/ copies a SQLite file to PostgreSQL.
"""
