"""The store in one SQLite file, for one process."""

from gatehouse.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
