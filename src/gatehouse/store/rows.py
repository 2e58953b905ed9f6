"""Converts events to rows and back: the values of their columns, and checksums that detect damage."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from gatehouse.events.event import Event, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

Value: TypeAlias = str | bytes | int | None
Row: TypeAlias = tuple[Value, ...]

EVENT_COLUMNS: Final = (
    "id, source, path, provider, external_id, type, time, received_ms, subject, account,"
    " content_type, headers, data_start, data_end, data_is_json, body, document"
)
_BODY: Final = -2

#: The first ten characters of an id are the time, with 48 bits.
_MAX_ID_TIME: Final = 2**48 / 1000 - 1
_ID_TIME_DIGITS: Final = 10
_ID_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def first_id_at(seconds: float) -> str:
    """Return a lower bound for the ids of events that were received at this time or later."""
    return new_id(min(max(seconds, 0.0), _MAX_ID_TIME))[:_ID_TIME_DIGITS]


def time_of_id(event_id: str) -> float:
    """Return the time in an id (unix seconds): when its event was received. 0.0 if it contains none."""
    time = 0
    for character in event_id[:_ID_TIME_DIGITS]:
        time = time * len(_ID_ALPHABET) + max(0, _ID_ALPHABET.find(character))
    return time / 1000


def milliseconds(seconds: float) -> int:
    """Convert a time in seconds to the milliseconds of the store."""
    return round(seconds * 1000)


def digest(body: bytes) -> bytes:
    """Return the SHA-256 of a body."""
    return hashlib.sha256(body).digest()


def checksum(columns: Sequence[Value]) -> int:
    """Return the CRC-32 of the values of `EVENT_COLUMNS` without the body, which has its digest."""
    return zlib.crc32(msgspec.msgpack.encode((columns[:_BODY], columns[-1])))


def event_row(event: Event) -> Row:
    """Return the values of `EVENT_COLUMNS`."""
    start, end = event.data_span or (None, None)
    return (
        event.id,
        event.source,
        event.path,
        event.provider,
        event.external_id,
        event.type,
        event.time,
        milliseconds(event.received),
        event.subject,
        event.account,
        encode_text(event.content_type),
        encode_headers(event.headers).decode(),
        start,
        end,
        1 if event.data_is_json else 0,
        event.body,
        event.document,
    )


def event_from(row: Sequence[object]) -> Event:
    """Make an event of the values of `EVENT_COLUMNS`."""
    stored = msgspec.convert(row, _StoredEvent)
    return Event(
        stored.id,
        stored.source,
        path=stored.path,
        provider=stored.provider,
        external_id=stored.external_id,
        type=stored.type,
        time=stored.time,
        received=stored.received_ms / 1000,
        subject=stored.subject,
        account=stored.account,
        content_type=decode_text(stored.content_type),
        headers=tuple((name, value) for name, value in json.loads(stored.headers)),
        body=stored.body,
        document=stored.document,
        data_span=_span(stored.data_start, stored.data_end),
        data_is_json=bool(stored.data_is_json),
    )


class _StoredEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    source: str
    path: str
    provider: str
    external_id: str
    type: str
    time: str
    received_ms: int
    subject: str | None
    account: str | None
    content_type: bytes | None
    headers: str
    data_start: int | None
    data_end: int | None
    data_is_json: int
    body: bytes
    document: bytes | None


# Rows are converted on the threads of several connections. This prepares the type before any of them uses it:
# msgspec does that at the first use, and crashed when two threads did it at the same moment (before 0.23).
msgspec.json.Decoder(_StoredEvent)


def encode_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Encode headers as JSON. Bytes that were not UTF-8, which are lone surrogates, are escaped."""
    try:
        return msgspec.json.encode(headers)
    except UnicodeEncodeError:
        return json.dumps(headers, separators=(",", ":")).encode()


def encode_text(value: str | None) -> bytes | None:
    """Encode text from outside, which may contain lone surrogates in place of bytes that were not UTF-8."""
    return None if value is None else value.encode("utf-8", "surrogatepass")


def decode_text(value: bytes | None) -> str | None:
    """Undo `encode_text`."""
    return None if value is None else value.decode("utf-8", "surrogatepass")


def _span(start: int | None, end: int | None) -> tuple[int, int] | None:
    return None if start is None or end is None else (start, end)
