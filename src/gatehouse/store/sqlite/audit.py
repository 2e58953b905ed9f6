"""Stores, lists and purges audit entries in the SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store import audit
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    import sqlite3

    from gatehouse.store.records import AuditEntry, AuditQuery, Page

_INSERT: Final = f"INSERT INTO audit ({audit.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - of a constant
_SELECT: Final = f"""
SELECT seq, {audit.COLUMNS} FROM audit
WHERE seq < :before AND (:who IS NULL OR who = :who) AND (:action IS NULL OR action = :action)
  AND (:since IS NULL OR at_ms >= :since) AND (:until IS NULL OR at_ms < :until)
ORDER BY seq DESC LIMIT :rows
"""  # noqa: S608 - of a constant
_PURGE: Final = """
DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at_ms < ? ORDER BY at_ms LIMIT ?)
"""


def add(connection: sqlite3.Connection, entry: AuditEntry) -> None:
    """Store an entry, inside the caller's transaction."""
    connection.execute(_INSERT, audit.to_row(entry))


def entries(
    connection: sqlite3.Connection, query: AuditQuery, *, limit: int, before: int
) -> Page[AuditEntry]:
    """Return a page of the entries below a number."""
    parameters = {
        "before": before,
        "who": query.who,
        "action": query.action,
        "since": None if query.since is None else milliseconds(query.since),
        "until": None if query.until is None else milliseconds(query.until),
        "rows": limit + 1,
    }
    return audit.make_page(connection.execute(_SELECT, parameters).fetchall(), limit)


def purge(connection: sqlite3.Connection, *, before: float, limit: int) -> int:
    """Remove at most `limit` entries from before a time, inside the caller's transaction. Counts them."""
    return connection.execute(_PURGE, (milliseconds(before), limit)).rowcount
