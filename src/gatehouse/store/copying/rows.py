"""Converts rows of a SQLite store to rows of the database, to write them and to check them later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.store.copying.source import named_columns
from gatehouse.store.postgres.rows import (
    CHECKED_COLUMNS,
    CHECKED_TYPES,
    encode,
    event_row,
    is_storable,
    short_key,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.store.copying.source import (
        SourceAttempt,
        SourceBatch,
        SourceDelivery,
        SourceEvent,
        SourceReply,
    )

#: Puts copied deliveries before those that the database itself has numbered: they were accepted earlier.
_ORDER_OFFSET: Final = 2**40
_INTEGER: Final = 2**31
_BIGINT: Final = 2**63
#: No checksum is negative, so a row with this one is never taken for intact.
_IMPOSSIBLE_CHECKSUM: Final = -1

EVENT_TYPES: Final = ("text", "bigint", *CHECKED_TYPES)
EVENT_COLUMNS: Final = f"verified_by, stored_ms, {CHECKED_COLUMNS}"
DELIVERY_TYPES: Final = (
    *("text", "text", "bigint", "text", "integer", "text", "integer"),
    *("bigint", "integer", "bytea", "bigint", "integer", "bytea", "text"),
)
DELIVERY_COLUMNS: Final = (
    "event_id, destination, received_ms, status, attempts, last_reason, last_http_status, since_ms, earlier,"
    " order_key, order_seq, last_duration_ms, note, discarded_by"
)
ATTEMPT_TYPES: Final = ("text", "text", "integer", "text", "integer", "integer", "text", "bytea")
ATTEMPT_COLUMNS: Final = "event_id, destination, number, reason, http_status, duration_ms, error, reply"
AUDIT_TYPES: Final = ("bigint", "text", "text", "text", "text", "integer")
REPLY_TYPES: Final = ("text", "integer", "bytea", "bytea")
REPLY_COLUMNS: Final = "event_id, status, content_type, body"


class CopiedDelivery(NamedTuple):
    """A delivery. The times that depend on the database's clock are separate."""

    #: The values of `DELIVERY_COLUMNS`.
    values: tuple[Any, ...]
    #: In the time of the gateway that wrote the file.
    due_ms: int | None
    updated_ms: int

    @property
    def name(self) -> tuple[str, str]:
        """The event's id, and the destination."""
        return self.values[:2]


class CopiedAttempt(NamedTuple):
    """An attempt. Its time depends on the database's clock, so it is separate."""

    #: The values of `ATTEMPT_COLUMNS`.
    values: tuple[Any, ...]
    #: In the time of the gateway that wrote the file.
    at_ms: int

    @property
    def name(self) -> tuple[str, str, int]:
        """The event's id, the destination, and the number of the attempt."""
        return self.values[:3]


class CopiedBatch(NamedTuple):
    """The converted rows of a batch."""

    #: The values of `EVENT_COLUMNS`, by the event's id.
    events: dict[str, tuple[Any, ...]]
    deliveries: list[CopiedDelivery]
    attempts: list[CopiedAttempt]
    replies: list[tuple[Any, ...]]
    #: The ids of damaged events, which are copied as damaged.
    damaged: list[str]
    #: Events that are not copied, because their id is damaged.
    left_behind: list[str]


def convert_batch(batch: SourceBatch) -> CopiedBatch:
    """Convert a batch."""
    result = CopiedBatch({}, [], [], [], [], [])
    ids: dict[int, str] = {}
    for each in batch.events:
        _add_event(result, ids, each)
    damaged = set(result.damaged)
    for delivery in batch.deliveries:
        event_id = ids.get(delivery.seq)
        if event_id is not None:
            result.deliveries.append(_delivery(delivery, event_id, is_damaged=event_id in damaged))
    result.attempts.extend(_attempt(each, ids[each.seq]) for each in batch.attempts if each.seq in ids)
    result.replies.extend(_reply(reply, ids[reply.seq]) for reply in batch.replies if reply.seq in ids)
    return result


def _add_event(result: CopiedBatch, ids: dict[int, str], each: SourceEvent) -> None:
    event = each.event
    if event is not None and is_storable(event.id, event.source, event.provider):
        values, event_id = event_row(event, each.digest), event.id
    else:
        values = _damaged(each)
        event_id = values[2]
        if not event_id or event_id in result.events:
            result.left_behind.append(f"number {each.seq}")
            return
        result.damaged.append(event_id)
    ids[each.seq] = event_id
    facts = _text(each.verified_by) or None, _number(each.stored_ms, _BIGINT)
    result.events[event_id] = facts + values


def _damaged(each: SourceEvent) -> tuple[Any, ...]:
    """Return the values of `CHECKED_COLUMNS` as far as they can be read, for people to look at."""
    row = named_columns(each.columns)
    return (
        _bytes(each.digest),
        _IMPOSSIBLE_CHECKSUM,
        *(_text(row["id"]), _text(row["source"]), _bytes(row["path"]), _text(row["provider"])),
        *(_bytes(row["external_id"]), _bytes(row["type"]), _bytes(row["time"])),
        _number(row["received_ms"], _BIGINT) or 0,
        *(_optional(row, name) for name in ("subject", "account", "content_type")),
        _bytes(row["headers"]),
        *(_number(row[name], _INTEGER) for name in ("data_start", "data_end")),
        int(bool(row["data_is_json"])),
        _optional(row, "document"),
        _bytes(row["body"]),
    )


def _optional(row: Mapping[str, Any], name: str) -> bytes | None:
    return None if row[name] is None else _bytes(row[name])


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None else encode(str(value))


def _text(value: object) -> str:
    """Return a column that is text; "" if it is not."""
    return value if isinstance(value, str) and is_storable(value) else ""


def _number(value: object, bound: int) -> int | None:
    return value if isinstance(value, int) and -bound <= value < bound else None


def _delivery(delivery: SourceDelivery, event_id: str, *, is_damaged: bool) -> CopiedDelivery:
    is_corrupt = is_damaged and delivery.status == "pending"
    key = delivery.order_key
    values = (
        event_id,
        delivery.destination,
        delivery.received_ms,
        "dead" if is_corrupt else delivery.status,
        delivery.attempts,
        "corrupt" if is_corrupt else delivery.last_reason,
        None if is_corrupt else delivery.last_http_status,
        delivery.since_ms,
        delivery.earlier,
        None if key is None else short_key(key),
        None if key is None else delivery.seq - _ORDER_OFFSET,
        None if is_corrupt else delivery.last_duration_ms,
        None if delivery.note is None else encode(delivery.note),
        delivery.discarded_by,
    )
    return CopiedDelivery(values, None if is_corrupt else delivery.due_ms, delivery.updated_ms)


def _attempt(attempt: SourceAttempt, event_id: str) -> CopiedAttempt:
    error = None if attempt.error is None else _text(attempt.error)
    values = (
        *(event_id, attempt.destination, attempt.number, _text(attempt.reason), attempt.http_status),
        *(attempt.duration_ms, error, attempt.reply),
    )
    return CopiedAttempt(values, attempt.at_ms)


def _reply(reply: SourceReply, event_id: str) -> tuple[Any, ...]:
    return (event_id, reply.status, reply.content_type, reply.body)


def convert_key(row: Sequence[Any]) -> tuple[str, int, bytes]:
    """Convert the columns that identify a dedupe key."""
    source, place, key, *_ = row
    return source, place, short_key(key)
