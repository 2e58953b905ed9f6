"""Lists of events and deliveries, a page at a time, in the order of the events' ids: of the time received.

How much one page looks at is bounded, so that a rare filter does not take long: first the end of the stretch
is looked for, in an index alone, then what fits within it. Dead deliveries are found by their index; so are
pending ones while they are few enough to be sorted, and in the stretches of all when they are many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gatehouse.errors import StoreError
from gatehouse.store.base import DeliveryRow, EventRow, Page, StoredEvent
from gatehouse.store.cursors import LAST_NAME, Position, decode, encode
from gatehouse.store.postgres import listing_statements as statements
from gatehouse.store.postgres.filters import Conditions, add_filters, is_possible
from gatehouse.store.postgres.ordering import HELD
from gatehouse.store.postgres.rows import is_storable, shown, shown_or_none, sound_event
from gatehouse.store.rows import first_id_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.base import DeliveryQuery, EventQuery, Status
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection

T = TypeVar("T")

#: More than an id's time may differ from the time received, by rounding (seconds).
_ROUNDING: Final = 0.002


class _Stretch(NamedTuple):
    """What one page looks at: down to `end`; nothing, if no event's id is so large."""

    end: str
    is_last: bool


async def deliveries(
    connection: Connection, query: DeliveryQuery, *, limit: int, cursor: str | None, clock: DatabaseClock
) -> Page[DeliveryRow]:
    """Return a page of deliveries. Raises `ValueError` for a cursor that is none."""
    at = _position(cursor, query.event_id or _last_id(query), LAST_NAME)
    if not is_possible(query):
        return Page((), None)
    source = _where(query.status, query.destination)
    stretch = await _stretch(connection, source, query, at, statements.STRETCH_OF_DELIVERIES)
    source.add("(deliveries.event_id, deliveries.destination) < ({}, {})", at.event, at.destination)
    source.add("deliveries.event_id <= {}", at.event)
    source.add("deliveries.event_id >= {}", stretch.end)
    if query.event_id is not None:
        source.add("deliveries.event_id = {}", query.event_id)
    add_filters(source, query)
    rows = await _rows(connection, statements.DELIVERIES, source, limit)
    return _page(
        rows, limit, stretch, lambda row: Position(row[0], row[3]), lambda row: _delivery_row(row, clock)
    )


async def events(
    connection: Connection, query: EventQuery, *, limit: int, cursor: str | None
) -> Page[EventRow]:
    """Return a page of events. Raises `ValueError` for a cursor that is none."""
    at = _position(cursor, _last_id(query), "")
    if not is_possible(query):
        return Page((), None)
    source = _where(query.status, None)
    of_all = statements.STRETCH_OF_EVENTS
    if query.status in ("dead", "pending"):
        of_all = statements.STRETCH_OF_DELIVERIES
    stretch = await _stretch(connection, source, query, at, of_all)
    wanted = Conditions()
    if query.status is not None:
        found = f"SELECT 1 FROM deliveries WHERE deliveries.event_id = events.id AND {source}"  # noqa: S608
        wanted.parameters += source.parameters
        wanted.add(f"EXISTS ({found})")
    wanted.add("events.id < {}", at.event)
    wanted.add("events.id >= {}", stretch.end)
    add_filters(wanted, query)
    rows = await _rows(connection, statements.EVENTS, wanted, limit)
    return _page(rows, limit, stretch, lambda row: Position(row[0], ""), _event_row)


async def event(connection: Connection, event_id: str, *, clock: DatabaseClock) -> StoredEvent | None:
    """Return an event with its deliveries. Raises `StoreError` for a damaged one: it is not what was sent."""
    if not is_storable(event_id):
        return None
    row = await connection.fetchrow(statements.EVENT, event_id)
    if row is None:
        return None
    sound = sound_event(tuple(row))
    if sound is None:
        raise StoreError(f"the event {event_id} is damaged on the disk of the store")
    rows = await connection.fetch(statements.DELIVERIES_OF_EVENT, event_id)
    return StoredEvent(sound, tuple(_delivery_row(tuple(row), clock) for row in rows))


def _position(cursor: str | None, event_id: str, destination: str) -> Position:
    if cursor is None:
        return Position(event_id, destination)
    position = decode(cursor, str)
    if not is_storable(str(position.event), position.destination):
        raise ValueError("no cursor of this list")
    return position


def _where(status: Status | None, destination: str | None) -> Conditions:
    """Return the conditions on deliveries: those that have an index of their own first of all."""
    conditions = Conditions()
    if status is not None:
        conditions.add(statements.WITH_STATUS[status])
    if destination is not None:
        conditions.add("deliveries.destination = {}", destination)
    return conditions


async def _stretch(
    connection: Connection, source: Conditions, query: EventQuery | DeliveryQuery, at: Position, of_all: str
) -> _Stretch:
    """Find how far down a page may look."""
    first = "" if query.since is None else first_id_at(query.since - _ROUNDING)
    if getattr(query, "event_id", None) is not None:
        return _Stretch("", is_last=True)
    if query.status == "pending":
        number = await connection.fetchval(statements.HOW_MANY.format(conditions=source), *source.parameters)
        if number < statements.STRETCH:
            return _Stretch(first, is_last=True)
    own = source if query.status == "dead" else Conditions()
    bounded = Conditions()
    bounded.parameters += own.parameters
    if query.status == "dead":
        bounded.add(str(own).replace("{", "{{").replace("}", "}}"))
    column = "id" if of_all is statements.STRETCH_OF_EVENTS else "event_id"
    bounded.add(f"{column} <= {{}}", at.event)
    bounded.add(f"{column} >= {{}}", first)
    row = await connection.fetchrow(of_all.format(conditions=bounded), *bounded.parameters)
    end, seen = row or (None, 0)
    return _Stretch(LAST_NAME if end is None else end, seen < statements.STRETCH)


def _last_id(query: EventQuery | DeliveryQuery) -> str:
    return LAST_NAME if query.until is None else first_id_at(query.until + _ROUNDING)


async def _rows(
    connection: Connection, statement: str, conditions: Conditions, limit: int
) -> list[tuple[Any, ...]]:
    # One row more than fits tells whether there is another page.
    sql = statement.replace("{conditions}", str(conditions))
    sql = sql.replace("{limit}", conditions.parameter(limit + 1))
    return [tuple(row) for row in await connection.fetch(sql, *conditions.parameters)]


def _page(
    found: Sequence[tuple[Any, ...]],
    limit: int,
    stretch: _Stretch,
    position_of: Callable[[Any], Position],
    item: Callable[[Any], T],
) -> Page[T]:
    rows = found[:limit]
    cursor = None
    if len(found) > limit:
        cursor = encode(position_of(rows[-1]))
    elif not stretch.is_last:
        cursor = encode(Position(stretch.end, ""))
    return Page(tuple(map(item, rows)), cursor)


def _delivery_row(columns: Sequence[Any], clock: DatabaseClock) -> DeliveryRow:
    event_id, source, kind, destination, status, attempts, received_ms, *rest = columns
    due_ms, leased_until_ms, reason, http_status, updated_ms = rest
    is_due = due_ms is not None and due_ms != HELD
    return DeliveryRow(
        event_id=event_id,
        source=source,
        type=shown(kind),
        destination=destination,
        status=status,
        attempts=attempts,
        received=received_ms / 1000,
        due=clock.from_database(max(due_ms, leased_until_ms)) if is_due else None,
        last_reason=reason,
        last_http_status=http_status,
        updated=clock.from_database(updated_ms),
    )


def _event_row(columns: Sequence[Any]) -> EventRow:
    event_id, source, provider, external_id, kind, time, received_ms, *rest = columns
    subject, account, pending, delivered, dead = rest
    return EventRow(
        id=event_id,
        source=source,
        provider=provider,
        external_id=shown(external_id),
        type=shown(kind),
        time=shown(time),
        received=received_ms / 1000,
        subject=shown_or_none(subject),
        account=shown_or_none(account),
        pending=pending,
        delivered=delivered,
        dead=dead,
    )
