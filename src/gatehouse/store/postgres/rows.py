"""Events as rows of the database, as columns of many rows at once, and back.

A batch is sent as one array per column, so that a statement is the same whatever the number of rows: it is
prepared once for each connection, and costs one round trip.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gatehouse.events.event import Event
from gatehouse.store.rows import decode_text, digest, milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

#: In the order of `event_columns`, with the types of their arrays.
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
#: What `sound_event` needs of the table.
CHECKED_COLUMNS: Final = f"digest, checksum, {EVENT_COLUMNS}"
#: The types of the arrays of `CHECKED_COLUMNS`.
CHECKED_TYPES: Final = ("bytea", "bigint", *_TYPES.values())

#: Longer keys go by their digest: an index entry has to fit on a third of a page.
_LONGEST_KEY: Final = 256
_KEPT: Final = _LONGEST_KEY - hashlib.sha512().digest_size


def short_key(key: bytes) -> bytes:
    """Return what a key is kept as: itself, or for a long one something as telling, and kept as itself."""
    if len(key) <= _LONGEST_KEY:
        return key
    return key[:_KEPT] + hashlib.sha512(key).digest()


def encode(value: str) -> bytes:
    """Encode text from outside, whatever it holds."""
    return value.encode("utf-8", "surrogatepass")


def _encode_or_none(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogatepass")


def decode(value: bytes) -> str:
    """Undo `encode`."""
    return value.decode("utf-8", "surrogatepass")


def shown(value: bytes) -> str:
    """Decode what may have been damaged, to be looked at."""
    try:
        return decode(value)
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace")


def shown_or_none(value: bytes | None) -> str | None:
    """Decode what may be absent, to be looked at."""
    return None if value is None else shown(value)


def is_storable(*texts: str | None) -> bool:
    """Tell whether these can stand in a column of text. If not, no row has them."""
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
        _encode_or_none(event.subject),
        _encode_or_none(event.account),
        _encode_or_none(event.content_type),
        _encode_headers(event.headers),
        start,
        end,
        int(event.data_is_json),
        event.document,
    )
    return (body_digest, _checksum(columns), *columns, event.body)


def _checksum(columns: Sequence[Any]) -> int:
    return zlib.crc32(msgspec.msgpack.encode(columns))


def sound_event(row: Sequence[Any]) -> Event | None:
    """Make an event of `CHECKED_COLUMNS`; None when it is not the one that was stored."""
    body_digest, check, *columns, body = row
    if body is None or check != _checksum(columns) or digest(body) != body_digest:
        return None
    return _event(columns, body)


def _event(columns: Sequence[Any], body: bytes) -> Event:
    event_id, source, path, provider, external_id, kind, time, received_ms, *rest = columns
    subject, account, content_type, headers, start, end, data_is_json, document = rest
    return Event(
        id=event_id,
        source=source,
        path=decode(path),
        provider=provider,
        external_id=decode(external_id),
        type=decode(kind),
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


def _encode_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Encode as JSON, with bytes that were no UTF-8 (lone surrogates in aiohttp's text) escaped."""
    try:
        return msgspec.json.encode(headers)
    except UnicodeEncodeError:
        return json.dumps(headers, separators=(",", ":")).encode()
