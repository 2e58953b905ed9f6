"""Lists of events and deliveries in the SQLite file, a page at a time.

How much one page looks at is bounded, so that a rare filter neither takes long nor keeps the log from being
written back: first the end of the stretch is looked for, in an index alone, then what fits within it. Each
statement is a read transaction of its own. What is dead or pending is found by its index, in the order of the
events' numbers; everything else by the events' ids, whose order is that of the time received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gatehouse.errors import StoreError
from gatehouse.store.base import DeliveryRow, EventRow, Page, StoredEvent
from gatehouse.store.cursors import LAST_NAME, LAST_SEQ, Position, decode, encode
from gatehouse.store.rows import first_id_at
from gatehouse.store.sqlite import listing_statements as statements
from gatehouse.store.sqlite.filters import parameters
from gatehouse.store.sqlite.ordering import HELD
from gatehouse.store.sqlite.sound import CHECKED_COLUMNS, fetch, sound_event, text_or_bytes, text_to_look_at

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gatehouse.store.base import DeliveryQuery, EventQuery
    from gatehouse.store.sqlite.filters import Parameters
    from gatehouse.store.sqlite.listing_statements import Source

T = TypeVar("T")

#: How many rows a page looks at.
STRETCH: Final = 5000
#: More than an id's time may differ from the time received, by rounding (seconds).
_ROUNDING: Final = 0.002

_EVENT: Final = f"SELECT {CHECKED_COLUMNS} FROM events WHERE id = ?"  # noqa: S608 - of a constant


class _Stretch(NamedTuple):
    """What one page looks at: down to `end`, with what stands there; nothing, if no row is so large."""

    statement: str
    end: str | int
    is_last: bool


def deliveries(
    connection: sqlite3.Connection, query: DeliveryQuery, *, limit: int, cursor: str | None
) -> Page[DeliveryRow]:
    """Return a page of deliveries. Raises `ValueError` for a cursor that is none."""
    given = parameters(query) | {"destination": query.destination}
    if query.status in ("dead", "pending") and query.event_id is None:
        position = decode(cursor, int) if cursor is not None else Position(LAST_SEQ, LAST_NAME)
        _go_on(given, position, limit)
        stretch = _by_number(connection, query.status, given, statements.DELIVERIES_BY_NUMBER)
    else:
        position = (
            decode(cursor, str)
            if cursor is not None
            else Position(query.event_id or _last_id(query), LAST_NAME)
        )
        _go_on(given, position, limit)
        given["first"] = query.event_id or _first_id(query)
        stretch = _by_id(connection, given, statements.DELIVERIES_BY_ID)
    place = 11 if isinstance(stretch.end, int) else 0
    return _page(connection, stretch, given, lambda row: Position(row[place], row[3]), _delivery_row)


def events(
    connection: sqlite3.Connection, query: EventQuery, *, limit: int, cursor: str | None
) -> Page[EventRow]:
    """Return a page of events. Raises `ValueError` for a cursor that is none."""
    given = parameters(query) | {"destination": None}
    if query.status in ("dead", "pending"):
        _go_on(given, decode(cursor, int) if cursor is not None else Position(LAST_SEQ, ""), limit)
        stretch = _by_number(connection, query.status, given, statements.EVENTS_BY_NUMBER)
    else:
        _go_on(given, decode(cursor, str) if cursor is not None else Position(_last_id(query), ""), limit)
        given["first"] = _first_id(query)
        stretch = _by_id(connection, given, statements.EVENTS_BY_ID)
    place = 9 if isinstance(stretch.end, int) else 0
    return _page(connection, stretch, given, lambda row: Position(row[place], ""), _event_row)


def event(connection: sqlite3.Connection, event_id: str) -> StoredEvent | None:
    """Return an event with its deliveries. Raises `StoreError` for a damaged one: it is not what was sent."""
    found = fetch(connection, _EVENT, (event_id,), text_or_bytes)
    if not found:
        return None
    sound = sound_event(found[0])
    if sound is None:
        raise StoreError(f"the event {event_id} is damaged on the disk of the store")
    rows = connection.execute(statements.DELIVERIES_OF_EVENT, (event_id,)).fetchall()
    return StoredEvent(sound, tuple(_delivery_row(*row) for row in rows))


def _go_on(given: Parameters, position: Position, limit: int) -> None:
    # One row more than fits tells whether there is another page.
    given |= {
        "event": position.event,
        "destination_before": position.destination,
        "limit": limit + 1,
        "stretch": STRETCH,
    }


def _first_id(query: EventQuery | DeliveryQuery) -> str:
    return "" if query.since is None else first_id_at(query.since - _ROUNDING)


def _last_id(query: EventQuery | DeliveryQuery) -> str:
    return LAST_NAME if query.until is None else first_id_at(query.until + _ROUNDING)


def _by_id(connection: sqlite3.Connection, given: Parameters, statement: str) -> _Stretch:
    end, seen = connection.execute(statements.STRETCH_OF_IDS, given).fetchone()
    return _Stretch(statement, LAST_NAME if end is None else end, seen < STRETCH)


def _by_number(connection: sqlite3.Connection, status: str, given: Parameters, statement: str) -> _Stretch:
    of_one = given["destination"] is not None
    if status == "dead":
        source = statements.DEAD_OF_ONE if of_one else statements.DEAD
        sql = source.within(statements.STRETCH_OF_NUMBERS)
    else:
        source = statements.PENDING_OF_ONE if of_one else statements.PENDING
        if _are_few(connection, source, given):
            return _Stretch(source.within(statement), 0, is_last=True)
        source, sql = statements.PENDING_AMONG_ALL, statements.STRETCH_OF_ALL_NUMBERS
    end, seen = connection.execute(sql, given).fetchone()
    return _Stretch(source.within(statement), LAST_SEQ if end is None else end, seen < STRETCH)


def _are_few(connection: sqlite3.Connection, source: Source, given: Parameters) -> bool:
    (number,) = connection.execute(source.within(statements.HOW_MANY), given).fetchone()
    return bool(number < STRETCH)


def _page(
    connection: sqlite3.Connection,
    stretch: _Stretch,
    given: Parameters,
    position_of: Callable[[Any], Position],
    item: Callable[..., T],
) -> Page[T]:
    limit = int(given["limit"] or 0) - 1
    found = fetch(connection, stretch.statement, given | {"end": stretch.end}, text_to_look_at)
    rows = found[:limit]
    cursor = None
    if len(found) > limit:
        cursor = encode(position_of(rows[-1]))
    elif not stretch.is_last:
        cursor = encode(Position(stretch.end, ""))
    return Page(tuple(item(*row) for row in rows), cursor)


def _delivery_row(*columns: Any) -> DeliveryRow:  # noqa: ANN401 - as selected
    event_id, source, event_type, destination, status, attempts, received_ms, due_ms, *last, updated_ms, _ = (
        columns
    )
    return DeliveryRow(
        event_id=event_id,
        source=source,
        type=event_type,
        destination=destination,
        status=status,
        attempts=attempts,
        received=received_ms / 1000,
        due=None if due_ms is None or due_ms == HELD else due_ms / 1000,
        last_reason=last[0],
        last_http_status=last[1],
        updated=updated_ms / 1000,
    )


def _event_row(*columns: Any) -> EventRow:  # noqa: ANN401 - as selected
    *attributes, received_ms, subject, account, _, pending, delivered, dead = columns
    event_id, source, provider, external_id, event_type, time = attributes
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
    )
