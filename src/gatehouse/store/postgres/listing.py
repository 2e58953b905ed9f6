"""Lists events and deliveries in the database, one page at a time.

Lists are in the order of the events' ids, which is the order of the time received. Dead deliveries are found
by their index. Pending ones are too, as long as they are few enough to be sorted. When they are many, a page
scans a range of all deliveries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.errors import StoreError
from gatehouse.store.accepting import HELD
from gatehouse.store.attempts import duration_from
from gatehouse.store.listing import (
    LAST_NAME,
    SCAN_ROWS,
    Position,
    ScanRange,
    decode_cursor,
    first_id,
    last_id,
    make_page,
)
from gatehouse.store.postgres import queries
from gatehouse.store.postgres.attempts import attempts_by_destination
from gatehouse.store.postgres.queries import Conditions, add_filters, can_match
from gatehouse.store.postgres.rows import intact_event, is_storable, text_with_marks, text_with_marks_or_none
from gatehouse.store.records import DeliveryRow, EventRow, Page, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import DeliveryQuery, EventQuery, Status


async def deliveries(
    connection: Connection, query: DeliveryQuery, *, limit: int, cursor: str | None, clock: DatabaseClock
) -> Page[DeliveryRow]:
    """Return a page of deliveries. Raises `ValueError` for an invalid cursor."""
    position = _position(cursor, query.event_id or last_id(query), LAST_NAME)
    if not can_match(query):
        return Page((), None)
    wanted = _deliveries_with(query.status, query.destination)
    scanned = await _range(connection, wanted, query, position, queries.RANGE_OF_DELIVERIES)
    wanted.add(
        "(deliveries.event_id, deliveries.destination) < ({}, {})", position.event, position.destination
    )
    wanted.add("deliveries.event_id <= {}", position.event)
    wanted.add("deliveries.event_id >= {}", scanned.end)
    if query.event_id is not None:
        wanted.add("deliveries.event_id = {}", query.event_id)
    add_filters(wanted, query)
    rows = await _select(connection, queries.DELIVERIES, wanted, limit)
    return make_page(
        rows, limit, scanned, lambda row: Position(row[0], row[3]), lambda row: _delivery_row(row, clock)
    )


async def events(
    connection: Connection, query: EventQuery, *, limit: int, cursor: str | None
) -> Page[EventRow]:
    """Return a page of events. Raises `ValueError` for an invalid cursor."""
    position = _position(cursor, last_id(query), "")
    if not can_match(query):
        return Page((), None)
    with_status = _deliveries_with(query.status, None)
    find_range = queries.RANGE_OF_EVENTS
    if query.status in ("dead", "pending"):
        find_range = queries.RANGE_OF_DELIVERIES
    scanned = await _range(connection, with_status, query, position, find_range)
    wanted = Conditions()
    if query.status is not None:
        found = f"SELECT 1 FROM deliveries WHERE deliveries.event_id = events.id AND {with_status}"  # noqa: S608
        wanted.parameters += with_status.parameters
        wanted.add(f"EXISTS ({found})")
    wanted.add("events.id < {}", position.event)
    wanted.add("events.id >= {}", scanned.end)
    add_filters(wanted, query)
    rows = await _select(connection, queries.EVENTS, wanted, limit)
    return make_page(rows, limit, scanned, lambda row: Position(row[0], ""), _event_row)


async def event(connection: Connection, event_id: str, *, clock: DatabaseClock) -> StoredEvent | None:
    """Return an event, its deliveries and attempts. Raises `StoreError` if it is damaged on the disk."""
    if not is_storable(event_id):
        return None
    row = await connection.fetchrow(queries.EVENT, event_id)
    if row is None:
        return None
    intact = intact_event(tuple(row))
    if intact is None:
        raise StoreError(f"the event {event_id} is damaged on the disk of the store")
    rows = await connection.fetch(queries.DELIVERIES_OF_EVENT, event_id)
    found_deliveries = tuple(_delivery_row(tuple(row), clock) for row in rows)
    attempts = await attempts_by_destination(connection, event_id, found_deliveries, clock=clock)
    return StoredEvent(intact, found_deliveries, attempts)


def _position(cursor: str | None, event_id: str, destination: str) -> Position:
    if cursor is None:
        return Position(event_id, destination)
    position = decode_cursor(cursor, str)
    if not is_storable(str(position.event), position.destination):
        raise ValueError("the cursor does not belong to this list")
    return position


def _deliveries_with(status: Status | None, destination: str | None) -> Conditions:
    """Return the conditions on deliveries. The one that has an index comes first."""
    conditions = Conditions()
    if status is not None:
        conditions.add(queries.HAS_STATUS[status])
    if destination is not None:
        conditions.add("deliveries.destination = {}", destination)
    return conditions


async def _range(
    connection: Connection,
    wanted: Conditions,
    query: EventQuery | DeliveryQuery,
    position: Position,
    find_range: str,
) -> ScanRange:
    """Find how far down a page scans."""
    first = first_id(query)
    if getattr(query, "event_id", None) is not None:
        return ScanRange("", is_last=True)
    if query.status == "pending":
        count = queries.COUNT_UP_TO_LIMIT.format(conditions=wanted)
        number = await connection.fetchval(count, *wanted.parameters)
        if number < SCAN_ROWS:
            return ScanRange(first, is_last=True)
    bounded = Conditions()
    if query.status == "dead":
        bounded.parameters += wanted.parameters
        bounded.add(str(wanted).replace("{", "{{").replace("}", "}}"))
    column = "id" if find_range is queries.RANGE_OF_EVENTS else "event_id"
    bounded.add(f"{column} <= {{}}", position.event)
    bounded.add(f"{column} >= {{}}", first)
    row = await connection.fetchrow(find_range.format(conditions=bounded), *bounded.parameters)
    end, scanned = row or (None, 0)
    return ScanRange(LAST_NAME if end is None else end, scanned < SCAN_ROWS)


async def _select(
    connection: Connection, statement: str, conditions: Conditions, limit: int
) -> list[tuple[Any, ...]]:
    # One row more than the page holds tells whether there is another page.
    sql = statement.replace("{conditions}", str(conditions))
    sql = sql.replace("{limit}", conditions.parameter(limit + 1))
    return [tuple(row) for row in await connection.fetch(sql, *conditions.parameters)]


def _delivery_row(columns: Sequence[Any], clock: DatabaseClock) -> DeliveryRow:
    event_id, source, event_type, destination, status, attempts, received_ms, *rest = columns
    due_ms, leased_until_ms, reason, http_status, updated_ms, last_duration_ms = rest
    is_due = due_ms is not None and due_ms != HELD
    return DeliveryRow(
        event_id=event_id,
        source=source,
        type=text_with_marks(event_type),
        destination=destination,
        status=status,
        attempts=attempts,
        received=received_ms / 1000,
        due=clock.from_database(max(due_ms, leased_until_ms)) if is_due else None,
        last_reason=reason,
        last_http_status=http_status,
        updated=clock.from_database(updated_ms),
        last_duration=duration_from(last_duration_ms),
    )


def _event_row(columns: Sequence[Any]) -> EventRow:
    event_id, source, provider, external_id, event_type, time, received_ms, *rest = columns
    subject, account, pending, delivered, dead = rest
    return EventRow(
        id=event_id,
        source=source,
        provider=provider,
        external_id=text_with_marks(external_id),
        type=text_with_marks(event_type),
        time=text_with_marks(time),
        received=received_ms / 1000,
        subject=text_with_marks_or_none(subject),
        account=text_with_marks_or_none(account),
        pending=pending,
        delivered=delivered,
        dead=dead,
    )
