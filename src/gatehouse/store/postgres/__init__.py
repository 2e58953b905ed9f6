"""The store in a PostgreSQL database, which several gateways share. It is as durable as that database."""

from __future__ import annotations

from gatehouse.store.postgres.connection import PostgresSettings
from gatehouse.store.postgres.store import PostgresStore

__all__ = ["PostgresSettings", "PostgresStore"]
