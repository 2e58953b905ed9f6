"""Leases deliveries in SQLite, records their results, releases leases, and counts deliveries.

While a delivery is leased, its `due_ms` is the end of the lease, so one column tells when it can be leased
next. The end of the lease is also its fencing token, because it is different each time.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from gatehouse.store.accepting import HELD
from gatehouse.store.attempts import with_stored_attempts
from gatehouse.store.base import Counts, Delivery
from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite import ordering
from gatehouse.store.sqlite.attempts import store_attempts
from gatehouse.store.sqlite.rows import (
    CHECKED_COLUMNS,
    CorruptDelivery,
    execute_rows,
    fetch,
    intact_event,
    text_or_bytes,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.events.event import Event
    from gatehouse.store.accepting import OrderGroup
    from gatehouse.store.base import Result, Which
    from gatehouse.store.rows import Row

#: An attempt may have been made during a lease that has run out, so it is counted.
_PENDING_EVENTS: Final = """
SELECT deliveries.event_seq, deliveries.attempts + (leased_until_ms > 0), deliveries.since_ms,
  deliveries.earlier, deliveries.order_key, {columns}
FROM deliveries {index} JOIN events ON events.seq = deliveries.event_seq
WHERE destination = ?1 AND due_ms <= ?2 AND {condition}
ORDER BY {order}
LIMIT ?3
""".replace("{columns}", ", ".join(f"events.{column}" for column in CHECKED_COLUMNS.split(", ")))


def _pending(order: str, condition: str = "true", index: str = "") -> str:
    """Return a statement that selects what to lease. The order must be that of an index: sorting is slow."""
    parts = {"{order}": order, "{condition}": condition, "{index}": index}
    return reduce(lambda text, each: text.replace(*each), parts.items(), _PENDING_EVENTS)


#: The condition of the partial index `deliveries_new`.
_NEW: Final = "attempts = 0 AND leased_until_ms = 0 AND due_ms IS NOT NULL"
_DUE: Final = _pending("due_ms, leased_until_ms, deliveries.event_seq")
_LEASABLE: Final[dict[Which, str]] = {
    "due": _DUE,
    "new": _pending("due_ms, deliveries.event_seq", _NEW, "INDEXED BY deliveries_new"),
    "newest": _pending("due_ms DESC, deliveries.event_seq DESC", _NEW, "INDEXED BY deliveries_new"),
    # A leased delivery is due when its lease ends.
    "next": _pending(
        "due_ms, leased_until_ms, deliveries.event_seq",
        "leased_until_ms <= ?4 AND deliveries.event_seq IS NOT (SELECT seq FROM events WHERE id = ?5)",
    ),
}
#: Where in a row of these statements the event's id is.
_ID: Final = 7
#: The numbers are passed as JSON, so that one statement serves any number of them.
_LEASE: Final = """
UPDATE deliveries SET due_ms = ?1, leased_until_ms = ?1, attempts = attempts + (leased_until_ms > 0)
WHERE destination = ?2 AND event_seq IN (SELECT value FROM json_each(?3))
"""
_MARK_CORRUPT: Final = """
UPDATE deliveries SET status = 'dead', due_ms = NULL, leased_until_ms = 0, last_reason = 'corrupt',
  last_http_status = NULL, last_duration_ms = NULL, updated_ms = ?1
WHERE destination = ?2 AND event_seq IN (SELECT value FROM json_each(?3))
"""
#: Selects the exceptions: leases that are lost (no event_seq), and deliveries with an order key. A query
#: before the update is cheap because its result is nearly always empty: it takes one step, and RETURNING
#: would take one step per row.
_LOST_OR_ORDERED: Final = """
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
  updated_ms = result.column8, last_duration_ms = result.column9
FROM (VALUES {rows}) AS result JOIN events ON events.id = result.column1
WHERE deliveries.event_seq = events.seq AND deliveries.destination = result.column2
"""
#: Due when it was received: at once, and before deliveries that came later.
_RELEASE: Final = """
UPDATE deliveries SET leased_until_ms = 0, due_ms = deliveries.received_ms
FROM (VALUES {rows}) AS lease JOIN events ON events.id = lease.column1
WHERE deliveries.event_seq = events.seq AND deliveries.destination = lease.column2
  AND deliveries.leased_until_ms = lease.column3 AND deliveries.leased_until_ms > 0
"""
#: An attempt may have been in progress, so it is counted: attempts must grow across crashes.
_RECOVER: Final = """
UPDATE deliveries SET leased_until_ms = 0, due_ms = received_ms, attempts = attempts + 1
WHERE (event_seq, destination) IN (
  SELECT event_seq, destination FROM deliveries INDEXED BY deliveries_pending
  WHERE due_ms IS NOT NULL AND leased_until_ms > 0
)
"""
_NEXT_DUE: Final = "SELECT min(due_ms) FROM deliveries WHERE destination = ? AND due_ms < ?"
#: The oldest delivery is the one that was accepted first. The inner query reads only the index, the outer one
#: one row per destination.
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
    """The deliveries that were leased, and those that are damaged."""

    deliveries: list[Delivery]
    corrupt: list[CorruptDelivery]


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
    """Lease pending deliveries, inside the caller's transaction."""
    now_ms, until_ms = milliseconds(now), milliseconds(until)
    parameters: list[object] = [destination, min(now_ms, HELD - 1), limit]
    if which == "next":
        parameters = [destination, HELD - 1, limit, now_ms, other_than]
    rows = fetch(connection, _LEASABLE[which], parameters, text_or_bytes)
    if not rows:
        return Leased([], [])
    checked = [(row, intact_event(row[5:])) for row in rows]
    intact = [(row, event) for row, event in checked if event is not None]
    damaged = [row for row, event in checked if event is None]
    connection.execute(_LEASE, (until_ms, destination, json.dumps([row[0] for row, _ in intact])))
    deliveries = [_delivery(row, event, destination, until_ms) for row, event in intact]
    return Leased(deliveries, _mark_corrupt(connection, destination, damaged, now_ms) if damaged else [])


def _delivery(row: Sequence[Any], event: Event, destination: str, until_ms: int) -> Delivery:
    _, attempts, since_ms, earlier, *_ = row
    since = event.received if since_ms is None else since_ms / 1000
    return Delivery(event, destination, attempts, until_ms / 1000, since, earlier or 0, until_ms)


def _mark_corrupt(
    connection: sqlite3.Connection, destination: str, rows: Sequence[Sequence[Any]], now_ms: int
) -> list[CorruptDelivery]:
    connection.execute(_MARK_CORRUPT, (now_ms, destination, json.dumps([row[0] for row in rows])))
    ordering.free(connection, {(destination, row[4]) for row in rows if row[4] is not None})
    ids = [row[_ID] for row in rows]
    return [CorruptDelivery(each if isinstance(each, str) else "", destination) for each in ids]


def record(connection: sqlite3.Connection, results: Sequence[Result]) -> list[bool]:
    """Record the results whose lease is still held, inside the caller's transaction."""
    leases = [_lease_row(result.delivery) for result in results]
    exceptions = execute_rows(connection, _LOST_OR_ORDERED, leases)
    if exceptions or len(set(leases)) < len(leases):
        return _record_lost_or_ordered(connection, results, leases, exceptions)
    execute_rows(connection, _RECORD, [_result_row(result) for result in results])
    if unusual := with_stored_attempts(results):
        store_attempts(connection, unusual)
    return [True] * len(results)


def _record_lost_or_ordered(
    connection: sqlite3.Connection,
    results: Sequence[Result],
    leases: Sequence[Row],
    exceptions: Sequence[tuple[Any, ...]],
) -> list[bool]:
    """Record results of which a lease is lost or used twice, or a delivery has an order key."""
    gone = {row[:2] for row in exceptions if row[2] is None}
    order_keys = {row[:2]: row[3] for row in exceptions if row[2] is not None}
    recorded: list[Result] = []
    held: list[bool] = []
    ended: set[OrderGroup] = set()
    for result, token in zip(results, leases, strict=True):
        name = token[:2]
        held.append(name not in gone)
        if held[-1]:
            # A lease can be used only once, even if two results of one batch have it.
            gone.add(name)
            recorded.append(result)
            if name in order_keys and result.status != "pending":
                ended.add((result.delivery.destination, order_keys[name]))
    execute_rows(connection, _RECORD, [_result_row(result) for result in recorded])
    if unusual := with_stored_attempts(recorded):
        store_attempts(connection, unusual)
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
        int(result.duration * 1000),
    )


def _lease_row(delivery: Delivery) -> Row:
    return (delivery.event.id, delivery.destination, delivery.token)


def release(connection: sqlite3.Connection, deliveries: Sequence[Delivery]) -> None:
    """Release leases, inside the caller's transaction."""
    execute_rows(connection, _RELEASE, [_lease_row(delivery) for delivery in deliveries])


def recover(connection: sqlite3.Connection) -> None:
    """Make deliveries due that the previous process had leased."""
    connection.execute(_RECOVER)


def next_due(connection: sqlite3.Connection, destination: str) -> float | None:
    """Return when the next delivery can be leased (unix seconds)."""
    (due_ms,) = connection.execute(_NEXT_DUE, (destination, HELD)).fetchone()
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
