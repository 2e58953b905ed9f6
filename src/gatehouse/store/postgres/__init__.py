"""The store in a PostgreSQL that several gateways share: durable as that is, for any number of processes.

How it is put together: `connecting` makes connections and `pool` lends them, `clock` is the time that the
gateways share, `accepting`, `leasing`, `recording`, `ordering`, `reviving`, `pausing` and `purging` are its
statements, `confirming` makes what they tell last, `listing` is what operators read, `hints` is what gateways
tell each other, `rows` is how events look in it, and `errors` where the driver's errors become ours.
"""

from __future__ import annotations

from gatehouse.store.postgres.settings import PostgresSettings
from gatehouse.store.postgres.store import PostgresStore

__all__ = ["PostgresSettings", "PostgresStore"]
