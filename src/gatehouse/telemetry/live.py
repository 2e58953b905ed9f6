"""Keeps the latest requests, events and attempts in memory, for the readers of the stream. Pure.

Without readers, publishing costs one check of `Hub.active`. With readers, it must stay cheap too, because it
happens at the rate of the gateway. So the newest entries are collected, and packed together into a block of
bytes after every `_BLOCK` entries. Blocks are only unpacked for readers. Thousands of small objects that live
for seconds would slow down everything else: the allocator would reuse memory that is in no cache.

All readers share the blocks. A reader is only a position. A reader that falls behind the oldest block has
lost entries, and knows how many.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What an entry is about. `left_out` is only passed on by a supervisor, about its workers.
Kind = Literal["request", "event", "attempt", "left_out"]

#: The most entries, and the most bytes of their blocks.
MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
#: The entries of a block, and the bytes of events after which it is packed earlier.
_BLOCK: Final = 64
_BLOCK_BYTES: Final = 256 * 1024


class RequestSeen(msgspec.Struct, frozen=True, gc=False):
    """A request of a provider that was answered. The members are those of the entry in the stream."""

    source: str | None
    outcome: str
    status: int
    reason: str | None
    client: str | None
    duration_ms: float
    event_ids: tuple[str, ...]
    type: str | None

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where its events are delivered to is not known here."""
        return ()


class EventSeen(msgspec.Struct, frozen=True, gc=False):
    """A new event."""

    id: str
    source: str
    type: str
    external_id: str
    subject: str | None
    account: str | None
    #: Unix seconds.
    received: float
    destinations: tuple[str, ...]
    #: The whole event in MessagePack, while `Hub.keeps_bodies`.
    packed: bytes | None = None
    #: What a worker has sent to its supervisor instead.
    body_base64: str | None = None
    envelope_base64: str | None = None


class AttemptSeen(msgspec.Struct, frozen=True, gc=False):
    """An attempt of a delivery. The members are those of the entry in the stream."""

    event_id: str
    source: str
    type: str
    external_id: str
    destination: str
    number: int
    reason: str
    http_status: int | None
    duration_ms: float
    #: The status of the delivery after the attempt. None for a relayed request, which has no delivery yet.
    status: Literal["pending", "delivered", "dead"] | None
    #: When the delivery is attempted again (RFC 3339), if that is known. It is not while the destination is
    #: paused.
    next: str | None
    error: str | None = None

    @property
    def destinations(self) -> tuple[str, ...]:
        """The destination of the attempt."""
        return (self.destination,)


class LeftOut(msgspec.Struct, frozen=True, gc=False):
    """How many entries a reader did not get; None when that is not known."""

    count: int | None


Seen = RequestSeen | EventSeen | AttemptSeen | LeftOut


#: The members of an `Entry`. A plain tuple is faster to make.
_New = tuple[float, Kind, Seen]


class Entry(NamedTuple):
    """One entry."""

    #: Unix seconds.
    at: float
    kind: Kind
    content: Seen


class _Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry in a block, with its content still packed."""

    at: float
    kind: Kind
    content: msgspec.Raw


class _Block(NamedTuple):
    """Packed entries."""

    #: The number of the first entry, and the one after the last.
    start: int
    end: int
    #: The entries themselves if they contain text that can't be packed.
    entries: bytes | list[Entry]

    @property
    def size(self) -> int:
        """Roughly how many bytes it holds."""
        packed = self.entries
        if isinstance(packed, bytes):
            return len(packed)
        return sum([_size(one.content) for one in packed if isinstance(one.content, EventSeen)])


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[_Packed]).decode
_UNPACK_CONTENT: Final[dict[Kind, Callable[[Any], Seen]]] = {
    "request": msgspec.msgpack.Decoder(RequestSeen).decode,
    "event": msgspec.msgpack.Decoder(EventSeen).decode,
    "attempt": msgspec.msgpack.Decoder(AttemptSeen).decode,
    "left_out": msgspec.msgpack.Decoder(LeftOut).decode,
}


class Hub:
    """The latest entries. Entries are numbered; numbers never come again.

    `kept_from` is the number of the oldest entry that is kept, and `next` the one of the entry that will come
    next.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        #: Whether entries are kept. Publishers check it first.
        self.active = False
        #: Whether new events are kept with their bodies.
        self.keeps_bodies = False
        #: Distinguishes this process from an earlier one, whose numbers mean something else.
        self.boot = secrets.token_hex(4)
        self.kept_from = 1
        self.next = 1
        self.clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bodies_from = 0
        self._blocks: list[_Block] = []
        #: The bytes of the blocks.
        self._bytes = 0
        #: The newest entries, which are not packed yet, and the bytes of their events.
        self._newest: list[_New] = []
        self._newest_bytes = 0
        #: The block that was read last: the number of its first entry, and the entries.
        self._read: tuple[int, list[Entry]] = (0, [])
        self._wake: Callable[[], None] | None = None

    def activate(self, *, bodies: bool = False) -> None:
        """Keep what is published from now on; with `bodies`, new events with their bodies."""
        self.active = True
        if bodies and not self.keeps_bodies:
            self.keeps_bodies, self._bodies_from = True, self.next

    def deactivate(self) -> None:
        """Forget all entries, and keep none from now on."""
        self.active = self.keeps_bodies = False
        self._blocks, self._bytes, self._newest, self._newest_bytes, self._read = [], 0, [], 0, (0, [])
        # One number is left out: a reader that comes back must not look as if it had missed nothing.
        self.next += 1
        self.kept_from = self.next

    def publish(self, kind: Kind, content: Seen) -> None:
        """Add an entry. Call it only while `active`."""
        newest = self._newest
        newest.append((self.clock(), kind, content))
        self.next += 1
        if len(newest) >= _BLOCK:
            self._pack_newest()
        if self._wake is not None:
            self._call_wake()

    def publish_events(self, events: Iterable[EventSeen]) -> None:
        """Add entries for new events. Call it only while `active`."""
        at = self.clock()
        for event in events:
            self._newest.append((at, "event", event))
            self.next += 1
            if event.packed is not None or event.envelope_base64 is not None:
                self._newest_bytes += _size(event)
            if len(self._newest) >= _BLOCK or self._newest_bytes >= _BLOCK_BYTES:
                self._pack_newest()
        if self._wake is not None:
            self._call_wake()

    def kept_for(self, *, bodies: bool) -> int:
        """Return the number of the oldest entry for a reader who wants bodies, or not."""
        return max(self.kept_from, self._bodies_from) if bodies else self.kept_from

    def entry(self, number: int) -> Entry:
        """Return a kept entry."""
        newest = self.next - len(self._newest)
        if number >= newest:
            return Entry(*self._newest[number - newest])
        start, entries = self._read
        if not 0 <= number - start < len(entries):
            block = self._blocks[bisect_right(self._blocks, number, key=_start) - 1]
            start, entries = self._read = block.start, _entries(block)
        return entries[number - start]

    def call_at_next(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when the next entry is published."""
        self._wake = wake

    def _call_wake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _pack_newest(self) -> None:
        block = _Block(self.next - len(self._newest), self.next, _packed(self._newest))
        self._newest, self._newest_bytes = [], 0
        self._blocks.append(block)
        self._bytes += block.size
        while self._bytes > self._max_bytes or self.next - self.kept_from > self._max_entries:
            oldest = self._blocks.pop(0)
            self._bytes -= oldest.size
            self.kept_from = oldest.end


def _start(block: _Block) -> int:
    return block.start


def _packed(entries: list[_New]) -> bytes | list[Entry]:
    try:
        return _pack(entries)
    except UnicodeEncodeError:
        # Text from outside may contain bytes that were not UTF-8.
        return [Entry(*one) for one in entries]


def _entries(block: _Block) -> list[Entry]:
    packed = block.entries
    if isinstance(packed, list):
        return packed
    return [Entry(one.at, one.kind, _UNPACK_CONTENT[one.kind](one.content)) for one in _unpack(packed)]


def _size(event: EventSeen) -> int:
    """Return the bytes of the bodies that an entry holds."""
    return len(event.packed or b"") + len(event.body_base64 or "") + len(event.envelope_base64 or "")
