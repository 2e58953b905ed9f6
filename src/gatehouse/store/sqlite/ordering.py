"""Keeps the order of deliveries: in each order group one delivery is active, and the others are held.

A held delivery is pending with the `due_ms` `HELD`, which never comes, so no search for due deliveries finds
it. It becomes due when the delivery before it has been delivered or is dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.accepting import HELD
from gatehouse.store.sqlite.rows import execute_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from gatehouse.store.accepting import OrderGroup

_TAKEN: Final = """
SELECT wanted.column1, wanted.column2
FROM (VALUES {rows}) AS wanted
WHERE EXISTS (
  SELECT 1 FROM deliveries INDEXED BY deliveries_ordered
  WHERE destination = wanted.column1 AND order_key = wanted.column2 AND due_ms IS NOT NULL
)
"""
#: The next delivery is due at the time it was received: at once, and before those that came later. Another
#: delivery than the one that ended may be active, so the statement checks whether there is one.
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
    SELECT 1 FROM deliveries AS active INDEXED BY deliveries_ordered
    WHERE active.destination = ended.column1 AND active.order_key = ended.column2
      AND active.due_ms < {HELD}
  )
) AS following
WHERE deliveries.event_seq = following.event_seq AND deliveries.destination = following.destination
""".replace("{HELD}", str(HELD))
_IS_HELD: Final = """
SELECT 1 FROM deliveries INDEXED BY deliveries_pending WHERE destination = ? AND due_ms = {HELD} LIMIT 1
""".replace("{HELD}", str(HELD))
#: All held deliveries of a destination, whether or not one is active.
_FREE_HELD: Final = """
UPDATE deliveries SET due_ms = received_ms, order_key = NULL
WHERE destination = ?1 AND event_seq IN (
  SELECT event_seq FROM deliveries INDEXED BY deliveries_pending
  WHERE destination = ?1 AND due_ms = {HELD} LIMIT ?2
)
""".replace("{HELD}", str(HELD))


def taken(connection: sqlite3.Connection, groups: Collection[OrderGroup]) -> set[OrderGroup]:
    """Return the groups that have a pending delivery."""
    return set(execute_rows(connection, _TAKEN, list(groups)))


def free(connection: sqlite3.Connection, groups: Collection[OrderGroup]) -> None:
    """Make the next held delivery of each group due unless one is active, inside the caller's transaction."""
    execute_rows(connection, _FREE, list(groups))


def is_held(connection: sqlite3.Connection, destination: str) -> bool:
    """Tell whether a destination has held deliveries."""
    return connection.execute(_IS_HELD, (destination,)).fetchone() is not None


def free_held(connection: sqlite3.Connection, destination: str, *, limit: int) -> int:
    """Make held deliveries due and remove their order key, inside the caller's transaction."""
    return connection.execute(_FREE_HELD, (destination, limit)).rowcount
