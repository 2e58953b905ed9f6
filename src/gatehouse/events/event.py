"""The event: its model, its id, and its form in memory for the stream."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.language.scope import Scope

#: The type of events that were verified but could not be read.
UNREADABLE = "gatehouse.unreadable"

#: The header of the events of a source that decodes bodies, if the stored body is compressed.
CONTENT_ENCODING = "content-encoding"


class Event(msgspec.Struct, frozen=True, gc=False):
    """A verified, identified and normalized event.

    Pass the first two fields by position. With more than 15 keywords, CPython builds a dict for the call, and
    the call costs six times as much.
    """

    #: The gateway's id (a ULID): the idempotency key at every destination.
    id: str
    #: The source's name.
    source: str
    #: The URL path of the source: the CloudEvents `source`.
    path: str
    #: The name of the preset, or that of the source if it has no preset.
    provider: str
    #: The provider's id of the event, or the gateway's id without one: the CloudEvents `id`.
    external_id: str
    type: str
    #: When the event happened (RFC 3339).
    time: str
    #: When the event was received (Unix seconds).
    received: float
    #: The bytes as sent: the body of the request, or the item of a batch.
    body: bytes
    subject: str | None = None
    account: str | None = None
    #: The provider's content type.
    content_type: str | None = None
    #: The provider's headers, without credentials: (lower-case name, value).
    headers: tuple[tuple[str, str], ...] = ()
    #: What contains the data if it is not the body: JSON from a form or around an item, or the decoded body.
    document: bytes | None = None
    #: Start and end of the data in the document, or else in the body. None if the event has no data.
    data_span: tuple[int, int] | None = None
    #: Whether the data is JSON. If not, it is sent as base64.
    data_is_json: bool = True

    @property
    def data(self) -> bytes | None:
        """The exact bytes of the data."""
        if self.data_span is None:
            return None
        start, end = self.data_span
        return (self.body if self.document is None else self.document)[start:end]


class ReadEvent(NamedTuple):
    """An event, its dedupe keys, and its scope."""

    event: Event
    #: The dedupe key of each entry of `dedupe.by`.
    keys: tuple[DedupeKey | None, ...]
    #: The scope, for the templates of destinations.
    scope: Scope


# The format is that of the ULID specification (github.com/ulid/spec): 48 bits of unix milliseconds and 80
# random bits in Crockford's base32, 26 characters.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: Maps a random byte to a character. All characters are equally likely.
_FROM_BYTE = (_ALPHABET * 8).encode()
_RANDOM_CHARACTERS = 16
_TIME_SHIFTS = range(45, -1, -5)


def new_id(now: float) -> str:
    """Return a new ULID for an event that was received at `now` (Unix seconds).

    The format is that of the ULID specification (github.com/ulid/spec): 48 bits of Unix milliseconds and 80
    random bits in Crockford's base32, 26 characters.
    """
    # From the system, because a seeded generator would repeat itself in a forked process.
    random = os.urandom(_RANDOM_CHARACTERS).translate(_FROM_BYTE).decode()
    return _time_part(int(now * 1000)) + random


@lru_cache(maxsize=16)
def _time_part(milliseconds: int) -> str:
    return "".join([_ALPHABET[milliseconds >> shift & 31] for shift in _TIME_SHIFTS])


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Event).decode
#: The first byte of an event in JSON, which MessagePack uses for a number.
_JSON = b"{"


def pack(event: Event) -> bytes:
    """Return an event as bytes that `unpack` reads. They are for memory: the stores have columns."""
    try:
        return _pack(event)
    except UnicodeEncodeError:
        # Lone surrogates stand for bytes that were not UTF-8, such as those of a header. JSON escapes them.
        return json.dumps(msgspec.to_builtins(event)).encode()


def unpack(packed: bytes) -> Event:
    """Return the event that was packed."""
    if packed.startswith(_JSON):
        return msgspec.convert(json.loads(packed), Event)
    return _unpack(packed)
