"""The store in one SQLite file. `store` is the way in, and says how the parts belong together."""

from gatehouse.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
