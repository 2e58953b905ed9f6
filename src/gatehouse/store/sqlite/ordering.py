"""Deliveries that follow one another: of each destination and order key one runs, the others are held.

A held delivery is pending with a `due_ms` that never comes, so that nothing which looks for what is due finds
it. It is the end of the one before it, and nothing else, that makes it due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.sqlite.statements import execute_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from gatehouse.store.deciding import Lock

#: The `due_ms` of a held delivery. Any that comes is smaller.
HELD: Final = 2**62

_TAKEN: Final = """
SELECT wanted.column1, wanted.column2
FROM (VALUES {rows}) AS wanted
WHERE EXISTS (
  SELECT 1 FROM deliveries INDEXED BY deliveries_ordered
  WHERE destination = wanted.column1 AND order_key = wanted.column2 AND due_ms IS NOT NULL
)
"""
#: Due when it was received: at once, and before what came later. The one that runs may be another one than
#: the one that ended, so it is asked whether there is any.
_FREE: Final = """
UPDATE deliveries SET due_ms = deliveries.received_ms
FROM (
  SELECT ended.column1 AS destination, (
      SELECT held.event_seq FROM deliveries AS held INDEXED BY deliveries_ordered
      WHERE held.destination = ended.column1 AND held.order_key = ended.column2 AND held.due_ms = {HELD}
      ORDER BY held.event_seq LIMIT 1
    ) AS event_seq
  FROM (VALUES {rows}) AS ended
  WHERE NOT EXISTS (
    SELECT 1 FROM deliveries AS running INDEXED BY deliveries_ordered
    WHERE running.destination = ended.column1 AND running.order_key = ended.column2
      AND running.due_ms < {HELD}
  )
) AS following
WHERE deliveries.event_seq = following.event_seq AND deliveries.destination = following.destination
""".replace("{HELD}", str(HELD))
_IS_HELD: Final = """
SELECT 1 FROM deliveries INDEXED BY deliveries_pending WHERE destination = ? AND due_ms = {HELD} LIMIT 1
""".replace("{HELD}", str(HELD))
#: All that is held for a destination, whatever runs.
_FREE_HELD: Final = """
UPDATE deliveries SET due_ms = received_ms, order_key = NULL
WHERE destination = ?1 AND event_seq IN (
  SELECT event_seq FROM deliveries INDEXED BY deliveries_pending
  WHERE destination = ?1 AND due_ms = {HELD} LIMIT ?2
)
""".replace("{HELD}", str(HELD))


def taken(connection: sqlite3.Connection, locks: Collection[Lock]) -> set[Lock]:
    """Return those of which a delivery is pending."""
    return set(execute_rows(connection, _TAKEN, list(locks)))  # type: ignore[arg-type]


def free(connection: sqlite3.Connection, locks: Collection[Lock]) -> None:
    """Make the next held delivery of each due, unless one runs; inside the caller's transaction."""
    execute_rows(connection, _FREE, list(locks))


def is_held(connection: sqlite3.Connection, destination: str) -> bool:
    """Tell whether any delivery of a destination is held."""
    return connection.execute(_IS_HELD, (destination,)).fetchone() is not None


def free_held(connection: sqlite3.Connection, destination: str, *, limit: int) -> int:
    """Make what is held due, and put it in no order any more; inside the caller's transaction."""
    return connection.execute(_FREE_HELD, (destination, limit)).rowcount
