"""What both stores share about lists: where a step begins, how much it scans, and its cursor.

A page is filled in steps (see searching.py). A step scans a bounded number of rows, so that a filter that
matches few of them stays fast. First a store finds the end of the range to scan, with an index alone. Then it
selects the matching rows within the range.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from gatehouse.store.records import DeadGroup, Page
from gatehouse.store.rows import first_id_at, time_of_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.records import DeliveryQuery, DeliveryRow, EventFacts, EventQuery, EventRow

T = TypeVar("T", bound="EventRow | DeliveryRow")
U = TypeVar("U")

#: How many rows one step of a page scans at first.
SCAN_ROWS: Final = 5000
#: The most rows of one scan if each is on another page of the file, such as the events of dead deliveries. A
#: disk that reads a page in 0.1 ms takes 40 ms for them. From the memory of the system they take 2 ms.
SCATTERED_ROWS: Final = 400
#: Sorts after every destination, and after every event id.
LAST_NAME: Final = "\U0010ffff"
#: Larger than any row's number.
LAST_SEQ: Final = 2**63 - 1
#: The statuses of replies that end a delivery, often at its first attempt, which is not stored.
_FIRST_OK, _LAST_OK = 200, 299
#: The time in an id and the time received may differ by less than this, because of rounding (seconds).
_ROUNDING: Final = 0.002


#: The rows that a list can be found by, other than events: all matching deliveries have one of them.
Driver = Literal["dead", "pending", "reason", "http_status"]
#: The reasons of results that have no stored attempt.
_WITHOUT_ATTEMPT: Final = ("ok", "corrupt")


class Position(NamedTuple):
    """The last row of a page. The next page begins after it."""

    #: An event's id, or its number in a SQLite file: a list is sorted by one of them.
    event: str | int
    #: In a list of deliveries; "" in a list of events.
    destination: str


_decode_position = msgspec.json.Decoder(Position).decode


class ScanRange(NamedTuple):
    """How far down a step scans."""

    #: The smallest id or number that is scanned.
    end: str | int
    #: Whether nothing is left below.
    is_last: bool
    #: When the event at the end was received (unix seconds); None for the time in an id.
    time: float | None = None


def encode_cursor(position: Position) -> str:
    """Encode a position as opaque text, which operators hand back."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, kind: type[str | int]) -> Position:
    """Decode a cursor of a list that is sorted by event ids (`str`) or numbers (`int`).

    Raises `ValueError` for anything else.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = _decode_position(raw)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError("the cursor does not belong to this list") from error
    if not isinstance(position.event, kind) or (kind is int and not 0 <= int(position.event) <= LAST_SEQ):
        raise ValueError("the cursor does not belong to this list")
    return position


def driver_of(query: EventQuery | DeliveryQuery) -> Driver | None:
    """Return by which rows a query is found; None for all events in the order of their ids."""
    if query.status in ("dead", "pending"):
        return query.status
    if query.http_status is not None and not _FIRST_OK <= query.http_status <= _LAST_OK:
        return "http_status"
    if query.reason is not None and query.reason not in _WITHOUT_ATTEMPT:
        return "reason"
    return None


def first_id(query: EventQuery | DeliveryQuery) -> str:
    """Return a lower bound for the ids of the events that a query asks for."""
    return "" if query.since is None else first_id_at(query.since - _ROUNDING)


def last_id(query: EventQuery | DeliveryQuery) -> str:
    """Return an upper bound for the ids of the events that a query asks for."""
    return LAST_NAME if query.until is None else first_id_at(query.until + _ROUNDING)


def reads_events(query: DeliveryQuery) -> bool:
    """Tell whether a query has conditions on events, not only on deliveries and attempts."""
    given = query.source, query.type, query.external_id, query.since, query.until
    return any(value is not None for value in given)


def make_page(
    found: Sequence[Any],
    limit: int,
    scanned: ScanRange,
    position_of: Callable[[Any], Position],
    item_of: Callable[[Any], T],
) -> Page[T]:
    """Make a page of at most `limit` rows. One row more in `found` means that there is another page."""
    rows = found[:limit]
    items = tuple(map(item_of, rows))
    if len(found) > limit:
        return Page(items, encode_cursor(position_of(rows[-1])), items[-1].received)
    return scanned_page(items, scanned)


def scanned_page(items: tuple[U, ...], scanned: ScanRange) -> Page[U]:
    """Make a page of everything that a step found in its range."""
    if scanned.is_last:
        return Page(items, None)
    time = time_of_id(str(scanned.end)) if scanned.time is None else scanned.time
    return Page(items, encode_cursor(Position(scanned.end, "")), time)


def dead_group(columns: Sequence[Any]) -> DeadGroup:
    """Return a group from its row."""
    destination, reason, http_status, count, oldest_ms, newest_ms = columns
    return DeadGroup(
        destination=destination,
        reason=reason,
        http_status=http_status,
        count=count,
        oldest=oldest_ms / 1000,
        newest=newest_ms / 1000,
    )


def make_page_onward(items: Sequence[EventFacts], limit: int, scanned_to: str | None) -> Page[EventFacts]:
    """Make a page of a list from old to new.

    `scanned_to` is the last id that was scanned if there may be more behind it.
    """
    cursor = items[-1].id if len(items) == limit else scanned_to
    return Page(tuple(items), cursor)
