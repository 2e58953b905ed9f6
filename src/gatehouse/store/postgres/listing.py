"""Lists events and deliveries in the database, one page at a time.

Lists are in the order of the events' ids, which is the order of the time received. Dead deliveries are found
by their index. Pending ones are too, as long as they are few enough to be sorted. When they are many, a page
scans a range of all deliveries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gatehouse.errors import StoreError
from gatehouse.store.accepting import HELD
from gatehouse.store.attempts import duration_from
from gatehouse.store.listing import (
    LAST_NAME,
    SCAN_ROWS,
    SCATTERED_ROWS,
    Position,
    ScanRange,
    dead_group,
    decode_cursor,
    driver_of,
    first_id,
    last_id,
    make_page,
    reads_events,
    scanned_page,
)
from gatehouse.store.postgres import queries
from gatehouse.store.postgres.attempts import attempts_by_destination
from gatehouse.store.postgres.filters import (
    HAS_STATUS,
    Conditions,
    add_delivery_filters,
    add_event_filters,
    add_filters,
    can_match,
)
from gatehouse.store.postgres.queries import Driver
from gatehouse.store.postgres.rows import intact_event, is_storable, text_with_marks, text_with_marks_or_none
from gatehouse.store.records import DeliveryRow, EventRow, Page, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import DeadGroup, DeliveryQuery, EventQuery


async def deliveries(
    connection: Connection,
    query: DeliveryQuery,
    *,
    limit: int,
    cursor: str | None,
    clock: DatabaseClock,
    scan_rows: int = SCAN_ROWS,
) -> Page[DeliveryRow]:
    """Return what one step finds. Raises `ValueError` for an invalid cursor."""
    position = _position(cursor, query.event_id or last_id(query), LAST_NAME)
    if not can_match(query):
        return Page((), None)
    scanned, driver = ScanRange(query.event_id or "", is_last=True), None
    if query.event_id is None:
        driver = await _driver(connection, query)
        of_all = Driver("deliveries", "event_id")
        scanned = await _range(connection, query, position, driver or of_all, scan_rows)
    statement, wanted = queries.DELIVERIES, Conditions()
    if driver is not None and driver.table == "attempts":
        statement = _with_driver(queries.DELIVERIES_FOUND, driver, wanted, position, scanned)
    wanted.add(
        "(deliveries.event_id, deliveries.destination) < ({}, {})", position.event, position.destination
    )
    wanted.add("deliveries.event_id <= {}", position.event)
    wanted.add("deliveries.event_id >= {}", scanned.end)
    if query.event_id is not None:
        wanted.add("deliveries.event_id = {}", query.event_id)
    add_delivery_filters(wanted, query)
    add_filters(wanted, query)
    rows = await _select(connection, statement, wanted, limit)
    return make_page(
        rows, limit, scanned, lambda row: Position(row[0], row[3]), lambda row: _delivery_row(row, clock)
    )


async def events(
    connection: Connection,
    query: EventQuery,
    *,
    limit: int,
    cursor: str | None,
    scan_rows: int = SCAN_ROWS,
) -> Page[EventRow]:
    """Return what one step finds. Raises `ValueError` for an invalid cursor."""
    position = _position(cursor, last_id(query), "")
    if not can_match(query):
        return Page((), None)
    driver = await _driver(connection, query)
    scanned = await _range(connection, query, position, driver or Driver("events", "id"), scan_rows)
    statement, wanted = _event_scan(driver, position, scanned)
    add_event_filters(wanted, query)
    rows = await _select(connection, statement, wanted, limit)
    return make_page(rows, limit, scanned, lambda row: Position(row[0], ""), _event_row)


def _event_scan(driver: Driver | None, position: Position, scanned: ScanRange) -> tuple[str, Conditions]:
    """Return the statement that selects events within a range, and the conditions of the range."""
    wanted = Conditions()
    wanted.add("events.id < {}", position.event)
    if driver is None:
        wanted.add("events.id >= {}", scanned.end)
        return queries.EVENTS, wanted
    return _with_driver(queries.EVENTS_FOUND, driver, wanted, position, scanned), wanted


def _with_driver(
    statement: str, driver: Driver, wanted: Conditions, position: Position, scanned: ScanRange
) -> str:
    """Return a statement that finds the rows of the driver within a range. `wanted` has its parameters."""
    found = Conditions(wanted.parameters)
    driver.add_to(found)
    found.add("event_id <= {}", position.event)
    found.add("event_id >= {}", scanned.end)
    return statement.replace("{table}", driver.table).replace("{found}", str(found))


async def dead_groups(
    connection: Connection, query: DeliveryQuery, *, cursor: str | None, scan_rows: int = SCAN_ROWS
) -> Page[DeadGroup]:
    """Return the groups of what one step scans. Raises `ValueError` for an invalid cursor."""
    query = msgspec.structs.replace(query, status="dead", event_id=None)
    position = _position(cursor, last_id(query), LAST_NAME)
    driver = await _driver(connection, query) if can_match(query) else None
    if driver is None:
        return Page((), None)
    scanned = await _range(connection, query, position, driver, scan_rows)
    wanted = Conditions()
    wanted.add("deliveries.event_id <= {}", position.event)
    wanted.add("deliveries.event_id >= {}", scanned.end)
    wanted.add(
        "(deliveries.event_id < {} OR deliveries.destination < {})", position.event, position.destination
    )
    add_delivery_filters(wanted, query)
    add_filters(wanted, query)
    statement = queries.DEAD_GROUPS_OF_EVENTS if reads_events(query) else queries.DEAD_GROUPS
    rows = await connection.fetch(statement.replace("{conditions}", str(wanted)), *wanted.parameters)
    return scanned_page(tuple(dead_group(tuple(row)) for row in rows), scanned)


async def event(connection: Connection, event_id: str, *, clock: DatabaseClock) -> StoredEvent | None:
    """Return an event, its deliveries and attempts. Raises `StoreError` if it is damaged on the disk."""
    if not is_storable(event_id):
        return None
    row = await connection.fetchrow(queries.EVENT, event_id)
    if row is None:
        return None
    verified_by, stored_ms, *columns = row
    intact = intact_event(columns)
    if intact is None:
        raise StoreError(f"the event {event_id} is damaged on the disk of the store")
    rows = await connection.fetch(queries.DELIVERIES_OF_EVENT, event_id)
    found_deliveries = tuple(_delivery_row(tuple(row), clock) for row in rows)
    attempts = await attempts_by_destination(connection, event_id, found_deliveries, clock=clock)
    stored = None if stored_ms is None else stored_ms / 1000
    return StoredEvent(intact, found_deliveries, attempts, verified_by, stored)


def _position(cursor: str | None, event_id: str, destination: str) -> Position:
    if cursor is None:
        return Position(event_id, destination)
    position = decode_cursor(cursor, str)
    if not is_storable(str(position.event), position.destination):
        raise ValueError("the cursor does not belong to this list")
    return position


async def _driver(connection: Connection, query: EventQuery | DeliveryQuery) -> Driver | None:
    """Return the index to scan, if one contains all deliveries that match and little else."""
    kind = driver_of(query)
    if kind is None:
        return None
    if query.status is None or kind != query.status:
        return Driver("attempts", "event_id", ((f"attempts.{kind} = {{}}", getattr(query, kind)),))
    conditions: tuple[tuple[str, str | None], ...] = ((HAS_STATUS[query.status], None),)
    if query.destination is not None:
        conditions += (("deliveries.destination = {}", query.destination),)
    driver = Driver("deliveries", "event_id", conditions)
    if kind == "pending" and not await _are_few(connection, driver):
        # Each range of all deliveries contains plenty of them.
        return None
    return driver


async def _are_few(connection: Connection, driver: Driver) -> bool:
    """Tell whether the rows of a driver are so few that they can be sorted."""
    conditions = Conditions()
    driver.add_to(conditions)
    count = queries.COUNT_UP_TO_LIMIT.format(table=driver.table, conditions=conditions)
    number: int = await connection.fetchval(count, *conditions.parameters)
    return number < SCAN_ROWS


async def _range(
    connection: Connection,
    query: EventQuery | DeliveryQuery,
    position: Position,
    driver: Driver,
    scan_rows: int,
) -> ScanRange:
    """Find how far down a step scans."""
    first, end_of = first_id(query), queries.END
    if query.status == "pending" and driver.conditions:
        scan_rows, end_of = min(scan_rows, SCATTERED_ROWS), queries.END_OF_FEW
    conditions = Conditions()
    driver.add_to(conditions)
    conditions.add(f"{driver.column} <= {{}}", position.event)
    conditions.add(f"{driver.column} >= {{}}", first)
    statement = end_of.format(
        column=driver.column,
        table=driver.table,
        conditions=conditions,
        rows=f"{conditions.parameter(scan_rows)}::bigint",
    )
    end = await connection.fetchval(statement, *conditions.parameters)
    return ScanRange(first if end is None else end, is_last=end is None)


async def _select(
    connection: Connection, statement: str, conditions: Conditions, limit: int
) -> list[tuple[Any, ...]]:
    # One row more than the page holds tells whether there is another page.
    sql = statement.replace("{conditions}", str(conditions))
    sql = sql.replace("{limit}", conditions.parameter(limit + 1))
    return [tuple(row) for row in await connection.fetch(sql, *conditions.parameters)]


def _delivery_row(columns: Sequence[Any], clock: DatabaseClock) -> DeliveryRow:
    event_id, source, event_type, destination, status, attempts, received_ms, *rest = columns
    due_ms, leased_until_ms, reason, http_status, updated_ms, last_duration_ms, note, discarded_by = rest
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
        note=text_with_marks_or_none(note),
        discarded_by=discarded_by,
    )


def _event_row(columns: Sequence[Any]) -> EventRow:
    event_id, source, provider, external_id, event_type, time, received_ms, *rest = columns
    subject, account, pending, delivered, dead, discarded = rest
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
        discarded=discarded,
    )
