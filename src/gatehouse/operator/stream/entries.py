"""Encodes entries of the stream as server-sent events (WHATWG HTML, section 9.2). Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import msgspec

from gatehouse.events.envelope import encode
from gatehouse.events.event import Event, unpack
from gatehouse.language.times import rfc3339
from gatehouse.operator.stream.wanted import Position
from gatehouse.telemetry.live import EventSeen

if TYPE_CHECKING:
    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.store.records import EventFacts
    from gatehouse.telemetry.live import Entry

#: The first bytes of a stream, so that the client and the proxies on the way see that it is there.
HELLO: Final = b": this is the stream of Gatehouse\n\n"
HEARTBEAT: Final = b": \n"
GOODBYE: Final = b": the gateway stops\n\n"
UNAVAILABLE: Final = b": the store is unavailable\n\n"


class EventShown(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An event as the stream shows it."""

    id: str
    source: str
    type: str
    external_id: str
    subject: str | None
    account: str | None
    received: str
    destinations: tuple[str, ...]
    body_base64: str | None = None
    envelope_base64: str | None = None


def show_event(
    event: Event | EventFacts | EventSeen, destinations: tuple[str, ...], wanted: Wanted
) -> EventShown:
    """Return an event as a reader wants it. `EventFacts` have no body."""
    body = envelope = None
    whole = event
    if isinstance(event, EventSeen):
        body = event.body_base64 if wanted.bodies else None
        envelope = event.envelope_base64 if wanted.envelope else None
        if event.packed is not None and (wanted.bodies or wanted.envelope):
            whole = unpack(event.packed)
    if isinstance(whole, Event):
        body = _base64(whole.body) if wanted.bodies else None
        envelope = _base64(encode(whole, "cloudevents")[1]) if wanted.envelope else None
    return EventShown(
        event.id,
        event.source,
        event.type,
        event.external_id,
        event.subject,
        event.account,
        rfc3339(event.received),
        destinations,
        body,
        envelope,
    )


def encode_content(at: float, content: object) -> bytes:
    """Return the JSON of an entry's content, with its time `at` as the first member."""
    return b'{"at":"%b",%b' % (rfc3339(at).encode(), _json(content)[1:])


def sse_block(position: Position, kind: str, data: bytes) -> bytes:
    """Return one server-sent event."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(position).encode(), kind.encode(), data)


def sse_entry(entry: Entry, boot: str, number: int, wanted: Wanted) -> bytes:
    """Return an entry of the hub as a server-sent event."""
    position, content = Position(int(entry.at * 1000), boot, number), entry.content
    shown = show_event(content, content.destinations, wanted) if isinstance(content, EventSeen) else content
    return sse_block(position, entry.kind, encode_content(entry.at, shown))


def sse_position(position: Position) -> bytes:
    """Return a server-sent event without data: a client only remembers the id, for when it comes back."""
    return b"id: %b\n\n" % str(position).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(content: object) -> bytes:
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError:
        # Text from outside may contain bytes that were not UTF-8.
        text = json.dumps(msgspec.to_builtins(content), ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
