"""Changes what operators ask for: retries dead deliveries, replays events, pauses destinations.

A delivery that is retried or replayed starts over: `give_up_after` counts from `since_ms`, and `earlier` is
the number of attempts before that.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gatehouse.store.accepting import HELD
from gatehouse.store.listing import SCATTERED_ROWS
from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite import ordering
from gatehouse.store.sqlite.attempts import keep_last_attempt
from gatehouse.store.sqlite.filters import delivery_filters, filter_parameters
from gatehouse.store.sqlite.queries import DEAD, DEAD_OF_DESTINATION, with_filters
from gatehouse.store.sqlite.rows import execute_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from gatehouse.store.records import DeliveryQuery

_NUMBER: Final = "SELECT seq FROM events WHERE id = ?"
_RANGE: Final = """
SELECT max(event_seq), count(*) FROM (
  SELECT event_seq FROM {table} WHERE {condition} AND event_seq > :after
  ORDER BY event_seq LIMIT :scan_rows
)
"""
#: The oldest first, because of the deliveries with order keys.
_DEAD: Final = """
SELECT deliveries.event_seq, deliveries.destination
FROM {table} CROSS JOIN events ON events.seq = deliveries.event_seq
WHERE {condition} AND deliveries.event_seq > :after AND deliveries.event_seq <= :end
  AND deliveries.updated_ms <= :now AND {filters}
ORDER BY deliveries.event_seq LIMIT :limit
"""
_ONE_DEAD: Final = """
SELECT deliveries.event_seq, deliveries.destination
FROM events CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE events.id = :event_id AND deliveries.updated_ms <= :now AND {filters}
LIMIT :limit
"""
_REVIVE: Final = """
UPDATE deliveries SET status = 'pending', due_ms = iif(order_key IS NULL, wanted.column3, {HELD}),
  leased_until_ms = 0, since_ms = wanted.column3, earlier = attempts, updated_ms = wanted.column3
FROM (VALUES {rows}) AS wanted
WHERE deliveries.event_seq = wanted.column1 AND deliveries.destination = wanted.column2
  AND deliveries.status = 'dead'
RETURNING deliveries.destination, deliveries.order_key, deliveries.event_seq
""".replace("{HELD}", str(HELD))
_DISCARD: Final = """
UPDATE deliveries SET status = 'discarded', updated_ms = wanted.column3, note = wanted.column4,
  discarded_by = wanted.column5
FROM (VALUES {rows}) AS wanted
WHERE deliveries.event_seq = wanted.column1 AND deliveries.destination = wanted.column2
  AND deliveries.status = 'dead'
RETURNING deliveries.destination
"""
_REVIVE_RESENT: Final = _REVIVE.replace(
    "AND deliveries.status = 'dead'",
    "AND deliveries.status = 'dead' AND coalesce(deliveries.since_ms, 0) <= wanted.column4",
)
#: Removes the order key: a replayed event neither waits for others nor holds them back.
_REPLAY: Final = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms, since_ms)
SELECT seq, ?1, 'pending', 0, received_ms, ?2, 0, ?2, ?2 FROM events WHERE seq = ?3
ON CONFLICT DO UPDATE SET status = 'pending', due_ms = ?2, leased_until_ms = 0, updated_ms = ?2,
  since_ms = ?2, earlier = attempts, order_key = NULL
WHERE status <> 'pending'
"""
#: The same for many events.
_REPLAY_ROWS: Final = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms, since_ms)
SELECT events.seq, wanted.column2, 'pending', 0, events.received_ms, wanted.column3, 0, wanted.column3,
  wanted.column3
FROM (VALUES {rows}) AS wanted CROSS JOIN events ON events.seq = wanted.column1
WHERE true
ON CONFLICT DO UPDATE SET status = 'pending', due_ms = excluded.due_ms, leased_until_ms = 0,
  updated_ms = excluded.updated_ms, since_ms = excluded.since_ms, earlier = attempts, order_key = NULL
WHERE status <> 'pending'
RETURNING event_seq, destination
"""
_PAUSE: Final = "INSERT OR IGNORE INTO paused_destinations (destination) VALUES (?)"
_RESUME: Final = "DELETE FROM paused_destinations WHERE destination = ?"
_PAUSED: Final = "SELECT destination FROM paused_destinations"


class DeadDeliveries(NamedTuple):
    """Dead deliveries that one scan found."""

    #: The event's number, and the destination.
    rows: list[tuple[int, str]]
    #: The number of the last event that was scanned.
    after: int
    #: Whether nothing is left to scan.
    done: bool


def find_dead(
    connection: sqlite3.Connection, query: DeliveryQuery, *, now: float, after: int, limit: int
) -> DeadDeliveries:
    """Scan a bounded number of dead deliveries, the oldest first, for those that match a query."""
    parameters = filter_parameters(query) | {
        "status": "dead",
        "event_id": query.event_id,
        "now": milliseconds(now),
        "after": after,
        "limit": limit,
        "scan_rows": SCATTERED_ROWS,
    }
    filters = delivery_filters(msgspec.structs.replace(query, status="dead"))
    if query.event_id is not None:
        rows = connection.execute(with_filters(_ONE_DEAD, filters), parameters).fetchall()
        return DeadDeliveries(rows, after, len(rows) < limit)
    index = DEAD if query.destination is None else DEAD_OF_DESTINATION
    end, scanned = connection.execute(index.apply_to(_RANGE), parameters).fetchone()
    statement = with_filters(index.apply_to(_DEAD), filters)
    rows = connection.execute(statement, parameters | {"end": end or 0}).fetchall()
    return DeadDeliveries(rows, end or after, scanned < SCATTERED_ROWS and len(rows) < limit)


def revive(connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], *, now: float) -> dict[str, int]:
    """Make deliveries due that are still dead, inside the caller's transaction. Returns counts."""
    return dict(Counter(name for _, name in revive_rows(connection, rows, now=now)))


def revive_rows(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], *, now: float
) -> list[tuple[int, str]]:
    """Do the same as `revive`. Returns the event's number and the destination of each changed delivery."""
    now_ms = milliseconds(now)
    revived = execute_rows(connection, _REVIVE, [(*row, now_ms) for row in rows])
    _free(connection, revived)
    return [(number, name) for name, _, number in revived]


def discard(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], *, note: str, by: str, now: float
) -> dict[str, int]:
    """Discard deliveries that are still dead, inside the caller's transaction. Returns counts."""
    given = milliseconds(now), note, by
    discarded = execute_rows(connection, _DISCARD, [(*row, *given) for row in rows])
    return dict(Counter(name for (name,) in discarded))


def revive_resent(
    connection: sqlite3.Connection, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
) -> dict[str, int]:
    """Make dead deliveries due that were not retried since `asked_before`. Counts them by destination."""
    times = milliseconds(now), milliseconds(asked_before)
    rows = [
        (*found, name, *times)
        for event_id, names in events.items()
        if (found := connection.execute(_NUMBER, (event_id,)).fetchone()) is not None
        for name in dict.fromkeys(names)
    ]
    revived = execute_rows(connection, _REVIVE_RESENT, rows)
    _free(connection, revived)
    return dict(Counter(name for name, *_ in revived))


def _free(connection: sqlite3.Connection, revived: list[Any]) -> None:
    ordering.free(connection, {(name, key) for name, key, _ in revived if key is not None})


def replay(
    connection: sqlite3.Connection, event_id: str, destinations: Sequence[str], *, now: float
) -> list[str] | None:
    """Make an event due for destinations, inside the caller's transaction. Returns those that changed."""
    found = connection.execute(_NUMBER, (event_id,)).fetchone()
    if found is None:
        return None
    (seq,), changed = found, []
    # Row by row, because one statement for all would not tell which ones changed.
    for name in dict.fromkeys(destinations):
        keep_last_attempt(connection, seq, name)
        if connection.execute(_REPLAY, (name, milliseconds(now), seq)).rowcount > 0:
            changed.append(name)
    return changed


def replay_rows(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], *, now: float
) -> list[tuple[int, str]]:
    """Make events due for destinations, inside the caller's transaction. Returns the rows that changed."""
    now_ms = milliseconds(now)
    return execute_rows(connection, _REPLAY_ROWS, [(*row, now_ms) for row in rows])


def pause(connection: sqlite3.Connection, destination: str, *, paused: bool) -> None:
    """Pause or resume a destination, inside the caller's transaction."""
    connection.execute(_PAUSE if paused else _RESUME, (destination,))


def paused(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the destinations that are paused."""
    return frozenset(name for (name,) in connection.execute(_PAUSED).fetchall())
