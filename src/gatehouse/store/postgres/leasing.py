"""Leases due deliveries, records their results, and releases leases.

No gateway waits for another: a row that another gateway is leasing at the moment is skipped.

The index of pending deliveries contains finished ones until a vacuum removes them, and an open transaction
anywhere in the database keeps vacuum from doing so. A scan for due deliveries would walk over all of them. So
each destination has a floor: when this process last scanned, nothing was pending below it. Nothing new
appears there, because `due_ms` is never written in the past. From time to time a scan starts at the bottom,
to find deliveries that a changed clock or a very late commit has put below the floor.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.store.accepting import HELD
from gatehouse.store.attempts import duration_ms, with_stored_attempts
from gatehouse.store.base import Delivery
from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.attempts import attempt_arrays, with_attempts
from gatehouse.store.postgres.rows import CHECKED_COLUMNS, arrays, columns, intact_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import Result, Which
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection

#: How much later than its `due_ms` a row may be committed, including the difference of the clocks.
_MARGIN_MS: Final = 5000
#: How often a scan starts at the bottom (seconds).
_FULL_SCAN_EVERY: Final = 60.0
BOTTOM: Final = -(2**62)
#: The bits of a token that identify the process, and those that count its leases.
PROCESS_BITS: Final = 26
COUNTER_BITS: Final = 36
#: The bit of a token that tells that the delivery may have an order key.
ORDERED_BIT: Final = 1

#: $1 destination, $2 floor, $3 now, $4 until, $5 limit, $6 token, and for `next` $7 the event to leave out.
#: An attempt may have been made during a lease that has run out, so it is counted. The result always has a
#: row, with the lowest `due_ms` that is pending.
_LEASE_OF: Final = """
WITH due AS (
  SELECT event_id FROM deliveries
  WHERE destination = $1 AND due_ms >= $2 AND leased_until_ms <= $3 AND {condition}
  ORDER BY {order} LIMIT $5 FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE deliveries
  SET leased_until_ms = $4, attempts = attempts + (leased_until_ms > 0)::integer,
    token = $6::bigint | (order_key IS NOT NULL)::integer
  WHERE event_id = ANY (ARRAY(SELECT event_id FROM due)) AND destination = $1
  RETURNING due_ms, place, event_id, attempts, token, since_ms, earlier, received_ms
)
SELECT lowest.due_ms, taken.*, {columns}
FROM (
  SELECT (
    SELECT due_ms FROM deliveries
    WHERE destination = $1 AND due_ms >= $2 ORDER BY due_ms, place LIMIT 1
  ) AS due_ms
) AS lowest
LEFT JOIN taken ON true
LEFT JOIN LATERAL (SELECT * FROM events WHERE id = taken.event_id LIMIT 1) AS events ON true
""".replace("{columns}", ", ".join(f"events.{column}" for column in CHECKED_COLUMNS.split(", ")))


def _lease_of(condition: str, order: str = "due_ms, place") -> str:
    return _LEASE_OF.replace("{condition}", condition).replace("{order}", order)


_LEASE: Final = _lease_of("due_ms <= $3")
_LEASES: Final[dict[Which, str]] = {
    "due": _LEASE,
    "new": _lease_of("due_ms <= $3 AND attempts = 0"),
    "newest": _lease_of("due_ms <= $3 AND attempts = 0", "due_ms DESC, place DESC"),
    "next": _lease_of(f"due_ms < {HELD} AND event_id IS DISTINCT FROM $7"),
}
#: When the first delivery that is due and leased can be leased again, and when the first later one is due.
_NEXT_DUE: Final = f"""
SELECT
  (SELECT min(greatest(due_ms, leased_until_ms)) FROM (
    SELECT due_ms, leased_until_ms FROM deliveries
    WHERE destination = $1 AND due_ms >= $2 AND due_ms <= $3 ORDER BY due_ms, place LIMIT 1000
  ) AS by_now),
  (SELECT due_ms FROM deliveries
    WHERE destination = $1 AND due_ms > $3 AND due_ms < {HELD} ORDER BY due_ms, place LIMIT 1)
"""  # noqa: S608 - of a constant
_MARK_CORRUPT: Final = """
UPDATE deliveries SET status = 'dead', due_ms = NULL, leased_until_ms = 0, last_reason = 'corrupt',
  last_http_status = NULL, last_duration_ms = NULL, updated_ms = $3
WHERE destination = $1 AND event_id = ANY($2::text[]) AND token = ANY($4::bigint[]) AND leased_until_ms > 0
RETURNING order_key
"""
_RESULT_TYPES: Final = (
    *("text", "text", "bigint", "integer"),
    *("text", "integer", "bigint", "text", "integer", "bigint", "integer"),
)
#: Rows are locked in the order of the arrays, which is the same in all gateways. A lease that is lost has
#: another token, or has ended. If another transaction has locked the row, PostgreSQL checks the condition
#: again after that transaction.
_RECORD: Final = """
UPDATE deliveries SET leased_until_ms = 0, status = result.status, attempts = result.attempts,
  due_ms = result.due_ms, last_reason = result.reason, last_http_status = result.http_status,
  updated_ms = result.updated_ms, last_duration_ms = result.duration_ms
FROM unnest({arrays}) AS result
  (event_id, destination, token, number, status, attempts, due_ms, reason, http_status, updated_ms,
    duration_ms)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = result.event_id AND deliveries.destination = result.destination
  AND deliveries.token = result.token AND deliveries.leased_until_ms > 0
RETURNING result.number, deliveries.order_key
""".replace("{arrays}", arrays(1, _RESULT_TYPES))
_RECORD_WITH_ATTEMPTS: Final = with_attempts(_RECORD, len(_RESULT_TYPES))
#: A lease does not change `due_ms`, so the delivery is due at once.
_RELEASE: Final = """
UPDATE deliveries SET leased_until_ms = 0
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS lease (event_id, destination, token)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = lease.event_id AND deliveries.destination = lease.destination
  AND deliveries.token = lease.token AND deliveries.leased_until_ms > 0
"""


class Tokens:
    """Generates fencing tokens, which identify the process and its lease."""

    def __init__(self, process: int) -> None:
        self._last = process << COUNTER_BITS

    def next(self) -> int:
        """Return a new token, in which `ORDERED_BIT` is free."""
        self._last += 2
        return self._last


class LeaseQuery(NamedTuple):
    """Which deliveries to lease."""

    destination: str
    floor: int
    #: In the database's time.
    now_ms: int
    until_ms: int
    limit: int
    which: Which = "due"
    #: With `next`: the event that is skipped.
    other_than: str | None = None


class ScanFloors:
    """Where scans start, by destination."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._full_scan_at: dict[str, float] = {}

    def of(self, destination: str) -> int:
        """Return the `due_ms` below which nothing is pending."""
        return self._floors.get(destination, BOTTOM)

    def is_full_scan_due(self, destination: str) -> bool:
        """Tell whether the next scan should start at the bottom."""
        return time.monotonic() >= self._full_scan_at.get(destination, 0.0)

    def postpone_full_scan(self, destination: str) -> None:
        """Start the next full scan later, because a full scan takes too long now."""
        self._full_scan_at[destination] = time.monotonic() + _FULL_SCAN_EVERY * 10

    def update(self, query: LeaseQuery, lowest: int | None, now_ms: int) -> None:
        """Move the floor after a scan, whose lowest pending `due_ms` was `lowest`."""
        if query.floor == BOTTOM:
            self._full_scan_at[query.destination] = time.monotonic() + _FULL_SCAN_EVERY
        self._floors[query.destination] = min(HELD if lowest is None else lowest, now_ms - _MARGIN_MS)

    def reset(self, destination: str) -> None:
        """Start the next scan at the bottom."""
        self._full_scan_at.pop(destination, None)


class Leased(NamedTuple):
    """The deliveries that were leased, and those that are damaged."""

    deliveries: list[Delivery]
    #: The events' ids, and the tokens of their leases.
    corrupt: list[tuple[str, int]]
    #: The lowest `due_ms` that is pending.
    lowest: int | None


async def lease(connection: Connection, query: LeaseQuery, *, tokens: Tokens, clock: DatabaseClock) -> Leased:
    """Lease pending deliveries."""
    rows = await connection.fetch(
        _LEASES[query.which],
        query.destination,
        query.floor,
        min(query.now_ms, HELD - 1),
        query.until_ms,
        query.limit,
        tokens.next(),
        *([query.other_than] if query.which == "next" else []),
    )
    lowest = rows[0][0]
    found = [tuple(row)[1:] for row in rows if row[1] is not None]
    found.sort(key=_by_due, reverse=query.which == "newest")
    leased_until = clock.from_database(query.until_ms)
    deliveries, corrupt = [], []
    for row in found:
        delivery = _delivery(row, query.destination, leased_until)
        if delivery is None:
            corrupt.append((row[2], row[4]))
        else:
            deliveries.append(delivery)
    return Leased(deliveries, corrupt, lowest)


def _by_due(row: Sequence[Any]) -> tuple[int, int]:
    return row[0], row[1]


def _delivery(row: Sequence[Any], destination: str, leased_until: float) -> Delivery | None:
    _, _, event_id, attempts, token, since_ms, earlier, received_ms, *columns = row
    event = intact_event(columns)
    if event is None or event.id != event_id:
        return None
    since = (received_ms if since_ms is None else since_ms) / 1000
    return Delivery(event, destination, attempts, leased_until, since, earlier or 0, token)


async def mark_corrupt(
    connection: Connection, destination: str, corrupt: Sequence[tuple[str, int]], *, now_ms: int
) -> set[bytes]:
    """Make damaged deliveries dead, inside the caller's transaction. Returns the order keys that are free."""
    ids, tokens = zip(*corrupt, strict=True)
    rows = await connection.fetch(_MARK_CORRUPT, destination, ids, now_ms, tokens)
    return {key for (key,) in rows if key is not None}


async def next_due(connection: Connection, destination: str, *, floor: int, now_ms: int) -> int | None:
    """Return when the next delivery can be leased, in the database's time."""
    row = await connection.fetchrow(_NEXT_DUE, destination, floor, now_ms)
    return min((due for due in row or () if due is not None), default=None)


async def record(connection: Connection, results: Sequence[Result], *, clock: DatabaseClock) -> list[bool]:
    """Record results in one transaction, and make due what was held behind deliveries that ended."""
    if not results:
        return []
    statement, rows = _RECORD, [*columns(_rows(results, clock), _RESULT_TYPES)]
    if unusual := with_stored_attempts(results):
        statement = _RECORD_WITH_ATTEMPTS
        rows += attempt_arrays(unusual, clock)
    if not any(result.delivery.token & ORDERED_BIT for result in results):
        return _held(results, await connection.fetch(statement, *rows))
    await connection.execute(ordering.BEGIN)
    found = await connection.fetch(statement, *rows)
    ended = {
        (results[number].delivery.destination, key)
        for number, key in found
        if key is not None and results[number].status != "pending"
    }
    await ordering.free(connection, ended, now_ms=clock.now())
    await connection.execute("COMMIT")
    return _held(results, found)


def _rows(results: Sequence[Result], clock: DatabaseClock) -> list[tuple[Any, ...]]:
    """Return one row for each lease: it can be used only once, even if two results of a batch have it."""
    now_ms = clock.now()
    rows: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    for number, result in enumerate(results):
        delivery = result.delivery
        lease = (delivery.event.id, delivery.destination, delivery.token)
        if lease not in rows:
            due_ms = max(clock.to_database(result.due_at), now_ms) if result.status == "pending" else None
            updated_ms, took_ms = clock.to_database(result.at), duration_ms(result.duration)
            last = (result.reason, result.http_status, updated_ms, took_ms)
            rows[lease] = (*lease, number, result.status, result.attempts, due_ms, *last)
    return sorted(rows.values())


def _held(results: Sequence[Result], found: Sequence[Any]) -> list[bool]:
    held = [False] * len(results)
    for number, _ in found:
        held[number] = True
    return held


async def release(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Release leases."""
    leases = sorted((each.event.id, each.destination, each.token) for each in deliveries)
    await connection.execute(_RELEASE, *columns(leases, ("text", "text", "bigint")))
