"""Deliveries in SQLite: leased, recorded, given back, counted.

While a delivery is leased, its `due_ms` is the end of the lease: one column says when it can be leased next.
The end of the lease is its fencing token, too: it is another one each time.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from gatehouse.store.base import Counts, Delivery
from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite import ordering
from gatehouse.store.sqlite.sound import CHECKED_COLUMNS, Corrupt, fetch, sound_event, text_or_bytes
from gatehouse.store.sqlite.statements import execute_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.events.event import Event
    from gatehouse.store.base import Result, Which
    from gatehouse.store.deciding import Lock
    from gatehouse.store.rows import Row

#: During a lease that has run out an attempt may have been made: it counts.
_PENDING_EVENTS: Final = """
SELECT deliveries.event_seq, deliveries.attempts + (leased_until_ms > 0), deliveries.since_ms,
  deliveries.earlier, deliveries.order_key, {columns}
FROM deliveries {index} JOIN events ON events.seq = deliveries.event_seq
WHERE destination = ?1 AND due_ms <= ?2 AND {condition}
ORDER BY {order}
LIMIT ?3
""".replace("{columns}", ", ".join(f"events.{column}" for column in CHECKED_COLUMNS.split(", ")))


def _pending(order: str, condition: str = "true", index: str = "") -> str:
    """Say what to lease. The order is that of an index, so that a million pending ones are not sorted."""
    given = {"{order}": order, "{condition}": condition, "{index}": index}
    return reduce(lambda text, each: text.replace(*each), given.items(), _PENDING_EVENTS)


#: As the index of new ones has it.
_NEW: Final = "attempts = 0 AND leased_until_ms = 0 AND due_ms IS NOT NULL"
_DUE: Final = _pending("due_ms, leased_until_ms, deliveries.event_seq")
_LEASABLE: Final[dict[Which, str]] = {
    "due": _DUE,
    "new": _pending("due_ms, deliveries.event_seq", _NEW, "INDEXED BY deliveries_new"),
    "newest": _pending("due_ms DESC, deliveries.event_seq DESC", _NEW, "INDEXED BY deliveries_new"),
    # What is leased is due when its lease ends.
    "next": _pending(
        "due_ms, leased_until_ms, deliveries.event_seq",
        "leased_until_ms <= ?4 AND deliveries.event_seq IS NOT (SELECT seq FROM events WHERE id = ?5)",
    ),
}
#: Where in such a row the event's id is.
_ID: Final = 7
#: The list of numbers travels as JSON: one statement whatever its length.
_LEASE: Final = """
UPDATE deliveries SET due_ms = ?1, leased_until_ms = ?1, attempts = attempts + (leased_until_ms > 0)
WHERE destination = ?2 AND event_seq IN (SELECT value FROM json_each(?3))
"""
_BURY: Final = """
UPDATE deliveries SET status = 'dead', due_ms = NULL, leased_until_ms = 0, last_reason = 'corrupt',
  last_http_status = NULL, updated_ms = ?1
WHERE destination = ?2 AND event_seq IN (SELECT value FROM json_each(?3))
"""
#: What is not as usual: a lease that is lost (no event_seq), or an order key. Asked before the update,
#: because the answer is nearly always empty: one step, where RETURNING would take one per row.
_UNUSUAL: Final = """
SELECT wanted.column1, wanted.column2, deliveries.event_seq, deliveries.order_key
FROM (VALUES {rows}) AS wanted
LEFT JOIN events ON events.id = wanted.column1
LEFT JOIN deliveries ON deliveries.event_seq = events.seq AND deliveries.destination = wanted.column2
  AND deliveries.leased_until_ms = wanted.column3 AND deliveries.leased_until_ms > 0
WHERE deliveries.event_seq IS NULL OR deliveries.order_key IS NOT NULL
"""
_RECORD: Final = """
UPDATE deliveries SET leased_until_ms = 0, status = result.column3, attempts = result.column4,
  due_ms = result.column5, last_reason = result.column6, last_http_status = result.column7,
  updated_ms = result.column8
FROM (VALUES {rows}) AS result JOIN events ON events.id = result.column1
WHERE deliveries.event_seq = events.seq AND deliveries.destination = result.column2
"""
#: Due when it was received: at once, and before what came later.
_RELEASE: Final = """
UPDATE deliveries SET leased_until_ms = 0, due_ms = deliveries.received_ms
FROM (VALUES {rows}) AS lease JOIN events ON events.id = lease.column1
WHERE deliveries.event_seq = events.seq AND deliveries.destination = lease.column2
  AND deliveries.leased_until_ms = lease.column3 AND deliveries.leased_until_ms > 0
"""
#: An attempt may have been under way: it counts, so that attempts grow across crashes.
_RECOVER: Final = """
UPDATE deliveries SET leased_until_ms = 0, due_ms = received_ms, attempts = attempts + 1
WHERE (event_seq, destination) IN (
  SELECT event_seq, destination FROM deliveries INDEXED BY deliveries_pending
  WHERE due_ms IS NOT NULL AND leased_until_ms > 0
)
"""
_NEXT_DUE: Final = "SELECT min(due_ms) FROM deliveries WHERE destination = ? AND due_ms < ?"
#: The oldest is the one accepted first. The inner query reads the index only, the outer one a row per
#: destination.
_PENDING: Final = """
SELECT pending.destination, pending.number, deliveries.received_ms
FROM (
  SELECT destination, count(*) AS number, min(event_seq) AS oldest
  FROM deliveries INDEXED BY deliveries_pending
  WHERE due_ms IS NOT NULL
  GROUP BY destination
) AS pending
JOIN deliveries ON deliveries.event_seq = pending.oldest AND deliveries.destination = pending.destination
"""
_DEAD: Final = "SELECT destination, count(*) FROM deliveries WHERE status = 'dead' GROUP BY destination"


class Leased(NamedTuple):
    """What was taken, and what can't be, ever."""

    deliveries: list[Delivery]
    corrupt: list[Corrupt]


def lease(
    connection: sqlite3.Connection,
    destination: str,
    *,
    now: float,
    until: float,
    limit: int,
    which: Which,
    other_than: str | None,
) -> Leased:
    """Take what is pending, inside the caller's transaction."""
    now_ms, until_ms = milliseconds(now), milliseconds(until)
    given: list[object] = [destination, min(now_ms, ordering.HELD - 1), limit]
    if which == "next":
        given = [destination, ordering.HELD - 1, limit, now_ms, other_than]
    rows = fetch(connection, _LEASABLE[which], given, text_or_bytes)
    if not rows:
        return Leased([], [])
    checked = [(row, sound_event(row[5:])) for row in rows]
    sound = [(row, event) for row, event in checked if event is not None]
    damaged = [row for row, event in checked if event is None]
    connection.execute(_LEASE, (until_ms, destination, json.dumps([row[0] for row, _ in sound])))
    deliveries = [_delivery(row, event, destination, until_ms) for row, event in sound]
    return Leased(deliveries, _bury(connection, destination, damaged, now_ms) if damaged else [])


def _delivery(row: Sequence[Any], event: Event, destination: str, until_ms: int) -> Delivery:
    _, attempts, since_ms, earlier, *_ = row
    since = event.received if since_ms is None else since_ms / 1000
    return Delivery(event, destination, attempts, until_ms / 1000, since, earlier or 0, until_ms)


def _bury(
    connection: sqlite3.Connection, destination: str, rows: Sequence[Sequence[Any]], now_ms: int
) -> list[Corrupt]:
    connection.execute(_BURY, (now_ms, destination, json.dumps([row[0] for row in rows])))
    ordering.free(connection, {(destination, row[4]) for row in rows if row[4] is not None})
    ids = [row[_ID] for row in rows]
    return [Corrupt(each if isinstance(each, str) else "", destination) for each in ids]


def record(connection: sqlite3.Connection, results: Sequence[Result]) -> list[bool]:
    """Write the results whose lease is still held, inside the caller's transaction."""
    leases = [_lease_row(result.delivery) for result in results]
    unusual = execute_rows(connection, _UNUSUAL, leases)
    if unusual or len(set(leases)) < len(leases):
        return _record_unusual(connection, results, leases, unusual)
    execute_rows(connection, _RECORD, [_result_row(result) for result in results])
    return [True] * len(results)


def _record_unusual(
    connection: sqlite3.Connection,
    results: Sequence[Result],
    leases: Sequence[Row],
    unusual: Sequence[tuple[Any, ...]],
) -> list[bool]:
    """Record where a lease is lost, used twice, or keeps others waiting."""
    gone = {row[:2] for row in unusual if row[2] is None}
    order_keys = {row[:2]: row[3] for row in unusual if row[2] is not None}
    rows: list[Row] = []
    held: list[bool] = []
    ended: set[Lock] = set()
    for result, token in zip(results, leases, strict=True):
        name = token[:2]
        held.append(name not in gone)
        if held[-1]:
            # A lease can be used once, also by two results of one batch.
            gone.add(name)
            rows.append(_result_row(result))
            if name in order_keys and result.status != "pending":
                ended.add((result.delivery.destination, order_keys[name]))
    execute_rows(connection, _RECORD, rows)
    ordering.free(connection, ended)
    return held


def _result_row(result: Result) -> Row:
    delivery, status = result.delivery, result.status
    return (
        delivery.event.id,
        delivery.destination,
        status,
        result.attempts,
        milliseconds(result.due_at) if status == "pending" else None,
        result.reason,
        result.http_status,
        milliseconds(result.at),
    )


def _lease_row(delivery: Delivery) -> Row:
    return (delivery.event.id, delivery.destination, delivery.token)


def release(connection: sqlite3.Connection, deliveries: Sequence[Delivery]) -> None:
    """Give back leases, inside the caller's transaction."""
    execute_rows(connection, _RELEASE, [_lease_row(delivery) for delivery in deliveries])


def recover(connection: sqlite3.Connection) -> None:
    """Take over what the process before this one had leased."""
    connection.execute(_RECOVER)


def next_due(connection: sqlite3.Connection, destination: str) -> float | None:
    """Return when the next delivery can be leased."""
    (due_ms,) = connection.execute(_NEXT_DUE, (destination, ordering.HELD)).fetchone()
    return None if due_ms is None else cast("int", due_ms) / 1000


def counts(connection: sqlite3.Connection) -> dict[str, Counts]:
    """Count the deliveries by destination."""
    pending = {name: (number, oldest) for name, number, oldest in connection.execute(_PENDING)}
    dead: dict[str, int] = dict(connection.execute(_DEAD).fetchall())
    return {name: _counts(pending.get(name), dead.get(name, 0)) for name in pending | dead}


def _counts(pending: tuple[int, int] | None, dead: int) -> Counts:
    if pending is None:
        return Counts(pending=0, dead=dead, oldest_pending=None)
    number, oldest_ms = pending
    return Counts(pending=number, dead=dead, oldest_pending=oldest_ms / 1000)
