"""How to reach a PostgreSQL, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What a config says of the database."""

    #: As libpq writes it, with any number of hosts: `postgresql://user@host:5432,host2/name?sslmode=...`.
    url: str
    #: Never in the url, which is logged.
    password: str | None = field(default=None, repr=False)
    #: The most connections for what may not wait. A few more are for lists, purges and hints.
    connections: int = 10
    #: Whether to start although the server answers commits before they are on its disk.
    allow_unsynced: bool = False
