"""Lists events and deliveries in the SQLite file, one page at a time.

Each statement is a read transaction of its own, and scans a bounded number of rows, so that no page keeps the
log from being written back to the file. Dead and pending deliveries are found by their index, in the order of
the events' numbers. All others are found by the events' ids, which are in the order of the time received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from gatehouse.errors import StoreError
from gatehouse.store.accepting import HELD
from gatehouse.store.attempts import duration_from
from gatehouse.store.listing import (
    LAST_NAME,
    LAST_SEQ,
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
from gatehouse.store.records import DeliveryRow, EventRow, Page, StoredEvent
from gatehouse.store.sqlite import queries
from gatehouse.store.sqlite.attempts import attempts_by_destination
from gatehouse.store.sqlite.filters import delivery_filters, event_filters, filter_parameters
from gatehouse.store.sqlite.queries import with_filters
from gatehouse.store.sqlite.rows import CHECKED_COLUMNS, fetch, intact_event, text_or_bytes, text_with_marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.store.listing import Driver
    from gatehouse.store.records import DeadGroup, DeliveryQuery, EventQuery
    from gatehouse.store.sqlite.filters import Parameters
    from gatehouse.store.sqlite.queries import NumberIndex

_EVENT: Final = f"""
SELECT verified_by, stored_ms, {CHECKED_COLUMNS} FROM events WHERE id = ?
"""  # noqa: S608 - of a constant

#: The drivers that are indexes of attempts.
_OF_ATTEMPTS: Final = ("reason", "http_status")


class _Scan(NamedTuple):
    """What one step does: `statement` selects the matching rows within `range`."""

    statement: str
    range: ScanRange


def deliveries(
    connection: sqlite3.Connection,
    query: DeliveryQuery,
    *,
    limit: int,
    cursor: str | None,
    scan_rows: int = SCAN_ROWS,
) -> Page[DeliveryRow]:
    """Return what one step finds. Raises `ValueError` for an invalid cursor."""
    parameters = filter_parameters(query)
    filters = delivery_filters(query)
    driver = driver_of(query)
    if driver is not None and query.event_id is None:
        position = Position(LAST_SEQ, LAST_NAME) if cursor is None else decode_cursor(cursor, int)
        _add_paging(parameters, position, limit, scan_rows)
        is_of_attempts = driver in _OF_ATTEMPTS
        statement = queries.DELIVERIES_ATTEMPTED if is_of_attempts else queries.DELIVERIES_BY_NUMBER
        scan = _scan_by_number(connection, driver, parameters, with_filters(statement, filters))
        key_column = queries.DELIVERY_SEQ
    else:
        start = query.event_id or last_id(query)
        position = Position(start, LAST_NAME) if cursor is None else decode_cursor(cursor, str)
        _add_paging(parameters, position, limit, scan_rows)
        parameters["first"] = query.event_id or first_id(query)
        scan = _scan_by_id(connection, parameters, with_filters(queries.DELIVERIES_BY_ID, filters))
        key_column = 0
    rows = _select(connection, scan, parameters)
    return make_page(rows, limit, scan.range, lambda row: Position(row[key_column], row[3]), _delivery_row)


def events(
    connection: sqlite3.Connection,
    query: EventQuery,
    *,
    limit: int,
    cursor: str | None,
    scan_rows: int = SCAN_ROWS,
) -> Page[EventRow]:
    """Return what one step finds. Raises `ValueError` for an invalid cursor."""
    parameters = filter_parameters(query)
    filters = event_filters(query)
    driver = driver_of(query)
    if driver is not None:
        position = Position(LAST_SEQ, "") if cursor is None else decode_cursor(cursor, int)
        _add_paging(parameters, position, limit, scan_rows)
        statement = with_filters(queries.EVENTS_BY_NUMBER, filters)
        scan = _scan_by_number(connection, driver, parameters, statement)
        key_column = queries.EVENT_SEQ
    else:
        position = Position(last_id(query), "") if cursor is None else decode_cursor(cursor, str)
        _add_paging(parameters, position, limit, scan_rows)
        parameters["first"] = first_id(query)
        scan = _scan_by_id(connection, parameters, with_filters(queries.EVENTS_BY_ID, filters))
        key_column = 0
    rows = _select(connection, scan, parameters)
    return make_page(rows, limit, scan.range, lambda row: Position(row[key_column], ""), _event_row)


def dead_groups(
    connection: sqlite3.Connection, query: DeliveryQuery, *, cursor: str | None, scan_rows: int = SCAN_ROWS
) -> Page[DeadGroup]:
    """Return the groups of what one step scans. Raises `ValueError` for an invalid cursor."""
    query = msgspec.structs.replace(query, status="dead", event_id=None)
    parameters = filter_parameters(query)
    position = Position(LAST_SEQ, LAST_NAME) if cursor is None else decode_cursor(cursor, int)
    _add_paging(parameters, position, 0, scan_rows)
    statement = queries.DEAD_GROUPS_OF_EVENTS if reads_events(query) else queries.DEAD_GROUPS
    statement = with_filters(statement, delivery_filters(query))
    scan = _scan_by_number(connection, "dead", parameters, statement)
    return scanned_page(tuple(map(dead_group, _select(connection, scan, parameters))), scan.range)


def event(connection: sqlite3.Connection, event_id: str) -> StoredEvent | None:
    """Return an event, its deliveries and attempts. Raises `StoreError` if it is damaged on the disk."""
    found = fetch(connection, _EVENT, (event_id,), text_or_bytes)
    if not found:
        return None
    verified_by, stored_ms, *row = found[0]
    intact = intact_event(row)
    if intact is None:
        raise StoreError(f"the event {event_id} is damaged on the disk of the store")
    rows = connection.execute(queries.DELIVERIES_OF_EVENT, (event_id,)).fetchall()
    found_deliveries = tuple(map(_delivery_row, rows))
    attempts = attempts_by_destination(connection, event_id, found_deliveries)
    return StoredEvent(intact, found_deliveries, attempts, *_unchecked(verified_by, stored_ms))


def _unchecked(verified_by: object, stored_ms: object) -> tuple[str | None, float | None]:
    """Return two values that the checksum does not cover. None if one is damaged so that it can't be read."""
    return (
        verified_by if isinstance(verified_by, str) else None,
        stored_ms / 1000 if isinstance(stored_ms, int) else None,
    )


def _add_paging(parameters: Parameters, position: Position, limit: int, scan_rows: int) -> None:
    parameters |= {
        "event": position.event,
        "destination_before": position.destination,
        # One row more than the page holds tells whether there is another page.
        "limit": limit + 1,
        "scan_rows": scan_rows,
    }


def _scan_by_id(connection: sqlite3.Connection, parameters: Parameters, statement: str) -> _Scan:
    found = connection.execute(queries.END_OF_IDS, parameters).fetchone()
    end = str(parameters["first"] if found is None else found[0])
    return _Scan(statement, ScanRange(end, is_last=found is None))


def _scan_by_number(
    connection: sqlite3.Connection, driver: Driver, parameters: Parameters, statement: str
) -> _Scan:
    index = _index_of(driver, has_destination=parameters["destination"] is not None)
    find_range = index.apply_to(queries.RANGE_OF_NUMBERS)
    if driver == "pending":
        if _are_few(connection, index, parameters):  # each step can sort all of them
            parameters["scan_rows"] = min(cast("int", parameters["scan_rows"]), SCATTERED_ROWS)
        else:
            index, find_range = queries.PENDING_IN_TABLE, queries.RANGE_OF_ALL_NUMBERS
    end, scanned = connection.execute(find_range, parameters).fetchone()
    if scanned < cast("int", parameters["scan_rows"]):
        return _Scan(index.apply_to(statement), ScanRange(LAST_SEQ if end is None else end, is_last=True))
    (received_ms,) = connection.execute(queries.RECEIVED, (end,)).fetchone()
    return _Scan(index.apply_to(statement), ScanRange(end, is_last=False, time=received_ms / 1000))


def _index_of(driver: Driver, *, has_destination: bool) -> NumberIndex:
    if driver == "dead":
        return queries.DEAD_OF_DESTINATION if has_destination else queries.DEAD
    if driver == "pending":
        return queries.PENDING_OF_DESTINATION if has_destination else queries.PENDING
    return queries.ATTEMPTED_WITH_REASON if driver == "reason" else queries.ATTEMPTED_WITH_HTTP_STATUS


def _are_few(connection: sqlite3.Connection, index: NumberIndex, parameters: Parameters) -> bool:
    (number,) = connection.execute(
        index.apply_to(queries.COUNT_UP_TO_LIMIT), parameters | {"scan_rows": SCAN_ROWS}
    ).fetchone()
    return bool(number < SCAN_ROWS)


def _select(connection: sqlite3.Connection, scan: _Scan, parameters: Parameters) -> list[tuple[Any, ...]]:
    return fetch(connection, scan.statement, parameters | {"end": scan.range.end}, text_with_marks)


def _delivery_row(columns: Sequence[Any]) -> DeliveryRow:
    event_id, source, event_type, destination, status, attempts, received_ms, due_ms, *rest = columns
    last_reason, last_http_status, updated_ms, _, last_duration_ms, note, discarded_by = rest
    return DeliveryRow(
        event_id=event_id,
        source=source,
        type=event_type,
        destination=destination,
        status=status,
        attempts=attempts,
        received=received_ms / 1000,
        due=None if due_ms is None or due_ms == HELD else due_ms / 1000,
        last_reason=last_reason,
        last_http_status=last_http_status,
        updated=updated_ms / 1000,
        last_duration=duration_from(last_duration_ms),
        note=note,
        discarded_by=discarded_by,
    )


def _event_row(columns: Sequence[Any]) -> EventRow:
    event_id, source, provider, external_id, event_type, time, received_ms, *rest = columns
    subject, account, _, pending, delivered, dead, discarded = rest
    return EventRow(
        id=event_id,
        source=source,
        provider=provider,
        external_id=external_id,
        type=event_type,
        time=time,
        received=received_ms / 1000,
        subject=subject,
        account=account,
        pending=pending,
        delivered=delivered,
        dead=dead,
        discarded=discarded,
    )
