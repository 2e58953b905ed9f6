"""Deliveries that are asked for again: dead ones by filter or with their event, events by destination.

Each begins anew: `since_ms` is from when on it is tried, `earlier` how many attempts there were before.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite import ordering
from gatehouse.store.sqlite.filters import OF_DELIVERIES, parameters
from gatehouse.store.sqlite.listing_statements import DEAD, DEAD_OF_ONE
from gatehouse.store.sqlite.statements import execute_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from gatehouse.store.base import DeliveryQuery

#: How many rows are looked at before the thread is given to others.
STRETCH: Final = 5000

_NUMBER: Final = "SELECT seq FROM events WHERE id = ?"
_STRETCH: Final = """
SELECT max(event_seq), count(*) FROM (
  SELECT event_seq FROM deliveries {index} WHERE {condition} AND event_seq > :after
  ORDER BY event_seq LIMIT :stretch
)
"""
#: The oldest first, for the sake of those with order keys.
_DEAD: Final = """
SELECT deliveries.event_seq, deliveries.destination
FROM deliveries {index} CROSS JOIN events ON events.seq = deliveries.event_seq
WHERE {condition} AND deliveries.event_seq > :after AND deliveries.event_seq <= :end
  AND deliveries.updated_ms <= :now AND {filters}
ORDER BY deliveries.event_seq LIMIT :limit
""".replace("{filters}", OF_DELIVERIES)
_ONE_DEAD: Final = """
SELECT deliveries.event_seq, deliveries.destination
FROM events CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.id = :event_id AND deliveries.updated_ms <= :now AND {filters}
LIMIT :limit
""".replace("{filters}", OF_DELIVERIES)
_REVIVE: Final = """
UPDATE deliveries SET status = 'pending', due_ms = iif(order_key IS NULL, wanted.column3, {HELD}),
  leased_until_ms = 0, since_ms = wanted.column3, earlier = attempts, updated_ms = wanted.column3
FROM (VALUES {rows}) AS wanted
WHERE deliveries.event_seq = wanted.column1 AND deliveries.destination = wanted.column2
  AND deliveries.status = 'dead'
RETURNING deliveries.destination, deliveries.order_key
""".replace("{HELD}", str(ordering.HELD))
_REVIVE_SENT_AGAIN: Final = _REVIVE.replace(
    "AND deliveries.status = 'dead'",
    "AND deliveries.status = 'dead' AND coalesce(deliveries.since_ms, 0) <= wanted.column4",
)
#: Without its order key: whoever asks for one event does not ask for it to wait, or to hold back others.
_REPLAY: Final = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms, since_ms)
SELECT seq, ?1, 'pending', 0, received_ms, ?2, 0, ?2, ?2 FROM events WHERE seq = ?3
ON CONFLICT DO UPDATE SET status = 'pending', due_ms = ?2, leased_until_ms = 0, updated_ms = ?2,
  since_ms = ?2, earlier = attempts, order_key = NULL
WHERE status <> 'pending'
"""


class Found(NamedTuple):
    """Dead deliveries, by event's number and destination."""

    rows: list[tuple[int, str]]
    #: Up to which event's number was looked.
    after: int
    #: Whether that is all.
    done: bool


def find(
    connection: sqlite3.Connection, query: DeliveryQuery, *, now: float, after: int, limit: int
) -> Found:
    """Look for dead deliveries, the oldest first, in a stretch of them."""
    given = parameters(query) | {
        "status": "dead",
        "destination": query.destination,
        "event_id": query.event_id,
        "now": milliseconds(now),
        "after": after,
        "limit": limit,
        "stretch": STRETCH,
    }
    if query.event_id is not None:
        rows = connection.execute(_ONE_DEAD, given).fetchall()
        return Found(rows, after, len(rows) < limit)
    source = DEAD if query.destination is None else DEAD_OF_ONE
    end, seen = connection.execute(source.within(_STRETCH), given).fetchone()
    rows = connection.execute(source.within(_DEAD), given | {"end": end or 0}).fetchall()
    return Found(rows, end or after, seen < STRETCH and len(rows) < limit)


def revive(connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], *, now: float) -> dict[str, int]:
    """Make those due that are still dead, inside the caller's transaction. Returns their numbers by name."""
    now_ms = milliseconds(now)
    return _freed(connection, execute_rows(connection, _REVIVE, [(*row, now_ms) for row in rows]))


def revive_sent_again(
    connection: sqlite3.Connection, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
) -> dict[str, int]:
    """Make the dead ones due that nobody asked for since, inside the caller's transaction."""
    times = milliseconds(now), milliseconds(asked_before)
    rows = [
        (*found, name, *times)
        for event_id, names in events.items()
        if (found := connection.execute(_NUMBER, (event_id,)).fetchone()) is not None
        for name in dict.fromkeys(names)
    ]
    return _freed(connection, execute_rows(connection, _REVIVE_SENT_AGAIN, rows))


def _freed(connection: sqlite3.Connection, revived: list[Any]) -> dict[str, int]:
    ordering.free(connection, {(name, key) for name, key in revived if key is not None})
    return dict(Counter(name for name, _ in revived))


def replay(
    connection: sqlite3.Connection, event_id: str, destinations: Sequence[str], *, now: float
) -> list[str] | None:
    """Make an event due for destinations, inside the caller's transaction. Returns those that it was not."""
    found = connection.execute(_NUMBER, (event_id,)).fetchone()
    if found is None:
        return None
    given = milliseconds(now), *found
    # Row by row, because a statement for all would not say which.
    return [
        name
        for name in dict.fromkeys(destinations)
        if connection.execute(_REPLAY, (name, *given)).rowcount > 0
    ]
