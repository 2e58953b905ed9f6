"""Converts events to rows of the database and back, and rows to the arrays of a statement.

A batch is sent as one array per column, and `unnest` turns the arrays into rows. So a statement is the same
for any number of rows: it is prepared once per connection, and costs one round trip.

PostgreSQL makes a plan after a connection has used a statement a few times, for the tables as they are then,
and keeps it. The tables are often empty then, and reading a whole index costs nothing. So no statement lets
the planner choose which side of a join comes first. To look up one row for each given value, statements use
LATERAL with LIMIT. To change rows, they name the rows by `= ANY`, beside a join with the given values.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gatehouse.events.event import Event
from gatehouse.store.rows import (
    decode_text,
    digest,
    encode_headers,
    encode_text,
    milliseconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The columns of an event in order, with the types of their arrays.
_TYPES: Final = {
    "id": "text",
    "source": "text",
    "path": "bytea",
    "provider": "text",
    "external_id": "bytea",
    "type": "bytea",
    "time": "bytea",
    "received_ms": "bigint",
    "subject": "bytea",
    "account": "bytea",
    "content_type": "bytea",
    "headers": "bytea",
    "data_start": "integer",
    "data_end": "integer",
    "data_is_json": "smallint",
    "document": "bytea",
    "body": "bytea",
}
EVENT_COLUMNS: Final = ", ".join(_TYPES)
#: The columns that `intact_event` needs.
CHECKED_COLUMNS: Final = f"digest, checksum, {EVENT_COLUMNS}"
#: The types of the arrays of `CHECKED_COLUMNS`.
CHECKED_TYPES: Final = ("bytea", "bigint", *_TYPES.values())

#: Longer keys are shortened with a digest, because an index entry has to fit on a third of a page.
_LONGEST_KEY: Final = 256
_KEPT: Final = _LONGEST_KEY - hashlib.sha512().digest_size


def short_key(key: bytes) -> bytes:
    """Return the key as it is stored: long keys are shortened. A shortened key stays the same."""
    if len(key) <= _LONGEST_KEY:
        return key
    return key[:_KEPT] + hashlib.sha512(key).digest()


def encode(value: str) -> bytes:
    """Encode text from outside, which may contain lone surrogates."""
    return value.encode("utf-8", "surrogatepass")


def decode(value: bytes) -> str:
    """Undo `encode`."""
    return value.decode("utf-8", "surrogatepass")


def text_with_marks(value: bytes) -> str:
    """Decode text for people to read, with a replacement character for each damaged byte."""
    try:
        return decode(value)
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace")


def text_with_marks_or_none(value: bytes | None) -> str | None:
    """Decode text that may be absent, for people to read."""
    return None if value is None else text_with_marks(value)


def is_storable(*texts: str | None) -> bool:
    """Tell whether a text column can contain these texts. If not, no row has them."""
    return not any(text is not None and ("\0" in text or not _is_unicode(text)) for text in texts)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def event_row(event: Event, body_digest: bytes) -> tuple[Any, ...]:
    """Return the values of `CHECKED_COLUMNS`."""
    start, end = event.data_span or (None, None)
    columns = (
        event.id,
        event.source,
        encode(event.path),
        event.provider,
        encode(event.external_id),
        encode(event.type),
        encode(event.time),
        milliseconds(event.received),
        encode_text(event.subject),
        encode_text(event.account),
        encode_text(event.content_type),
        encode_headers(event.headers),
        start,
        end,
        int(event.data_is_json),
        event.document,
    )
    return (body_digest, _checksum(columns), *columns, event.body)


def _checksum(columns: Sequence[Any]) -> int:
    return zlib.crc32(msgspec.msgpack.encode(columns))


def intact_event(row: Sequence[Any]) -> Event | None:
    """Make an event of `CHECKED_COLUMNS`. Returns None if it is not the event that was stored."""
    body_digest, check, *columns, body = row
    if body is None or check != _checksum(columns) or digest(body) != body_digest:
        return None
    return _event(columns, body)


def _event(columns: Sequence[Any], body: bytes) -> Event:
    event_id, source, path, provider, external_id, event_type, time, received_ms, *rest = columns
    subject, account, content_type, headers, start, end, data_is_json, document = rest
    return Event(
        event_id,
        source,
        path=decode(path),
        provider=provider,
        external_id=decode(external_id),
        type=decode(event_type),
        time=decode(time),
        received=received_ms / 1000,
        subject=decode_text(subject),
        account=decode_text(account),
        content_type=decode_text(content_type),
        headers=tuple((name, value) for name, value in json.loads(headers)),
        body=body,
        document=document,
        data_span=None if start is None or end is None else (start, end),
        data_is_json=bool(data_is_json),
    )


def arrays(first: int, types: Sequence[str]) -> str:
    """Return the parameters of an `unnest`, numbered from `first`."""
    return ", ".join(f"${number}::{each}[]" for number, each in enumerate(types, first))


def first_behind(first: int, *types: Sequence[str]) -> int:
    """Return the number of the parameter that follows arrays of these types."""
    return first + sum(map(len, types))


def columns(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> Sequence[Sequence[Any]]:
    """Turn rows into arrays, one for each column."""
    return list(zip(*rows, strict=True)) if rows else [()] * len(types)
