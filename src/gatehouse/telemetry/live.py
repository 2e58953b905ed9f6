"""Keeps the latest requests, events and attempts in memory, for the readers of the stream. Pure.

Without readers, publishing costs one check of `Hub.active`. With readers, it must stay cheap too, because it
happens at the rate of the gateway. So each entry is packed at once, to the end of a block of bytes. Blocks
are only unpacked for readers. Thousands of small objects that live for seconds would slow down everything
else: the allocator would reuse memory that is in no cache.

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
#: The entries of a block, and the bytes after which it has fewer.
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
    #: The whole event, as `gatehouse.events.event.pack` returns it, while `Hub.keeps_bodies`.
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
    packed: bytes


#: A block in MessagePack: an array with the number of its elements in four bytes.
_ARRAY, _COUNT_BYTES = b"\xdd", 4
_BEFORE_ENTRIES: Final = len(_ARRAY) + _COUNT_BYTES
_pack_into: Final = msgspec.msgpack.Encoder().encode_into
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
        #: The block that is being written, and the number of its first entry.
        self._open = bytearray(_BEFORE_ENTRIES)
        self._open_from = 1
        #: What was read last: the number of the first entry, the one after the last, and the entries.
        self._read: tuple[int, int, list[Entry]] = (0, 0, [])
        self._wake: Callable[[], None] | None = None

    def activate(self, *, bodies: bool = False) -> None:
        """Keep what is published from now on; with `bodies`, new events with their bodies."""
        self.active = True
        if bodies and not self.keeps_bodies:
            self.keeps_bodies, self._bodies_from = True, self.next

    def deactivate(self) -> None:
        """Forget all entries, and keep none from now on."""
        self.active = self.keeps_bodies = False
        self._blocks, self._bytes, self._open, self._read = [], 0, bytearray(_BEFORE_ENTRIES), (0, 0, [])
        # One number is left out: a reader that comes back must not look as if it had missed nothing.
        self.next += 1
        self.kept_from = self._open_from = self.next

    def publish(self, kind: Kind, content: Seen) -> None:
        """Add an entry. Call it only while `active`."""
        self._add(self.clock(), kind, content)
        if self._wake is not None:
            self._call_wake()

    def publish_events(self, events: Iterable[EventSeen]) -> None:
        """Add entries for new events. Call it only while `active`."""
        at = self.clock()
        for event in events:
            self._add(at, "event", event)
        if self._wake is not None:
            self._call_wake()

    def kept_for(self, *, bodies: bool) -> int:
        """Return the number of the oldest entry for a reader who wants bodies, or not."""
        return max(self.kept_from, self._bodies_from) if bodies else self.kept_from

    def entry(self, number: int) -> Entry:
        """Return a kept entry."""
        start, end, entries = self._read
        if not start <= number < end:
            start, end, entries = self._read = self._block_with(number)
        return entries[number - start]

    def call_at_next(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when the next entry is published."""
        self._wake = wake

    def _call_wake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _add(self, at: float, kind: Kind, content: Seen) -> None:
        block = self._open
        length = len(block)
        try:
            _pack_into((at, kind, content), block, -1)
        except UnicodeEncodeError:
            # Text from outside may contain bytes that were not UTF-8.
            del block[length:]
            _pack_into((at, kind, _readable(content)), block, -1)
        self.next += 1
        if self.next - self._open_from >= _BLOCK or len(block) >= _BLOCK_BYTES:
            self._close_block()

    def _close_block(self) -> None:
        block = _Block(self._open_from, self.next, self._packed())
        self._open, self._open_from = bytearray(_BEFORE_ENTRIES), self.next
        self._blocks.append(block)
        self._bytes += len(block.packed)
        while self._bytes > self._max_bytes or self.next - self.kept_from > self._max_entries:
            oldest = self._blocks.pop(0)
            self._bytes -= len(oldest.packed)
            self.kept_from = oldest.end

    def _packed(self) -> bytes:
        """Return the block that is being written."""
        count = self.next - self._open_from
        self._open[:_BEFORE_ENTRIES] = _ARRAY + count.to_bytes(_COUNT_BYTES, "big")
        return bytes(self._open)

    def _block_with(self, number: int) -> tuple[int, int, list[Entry]]:
        """Return the numbers and the entries of the block with this number."""
        if number >= self._open_from:
            return self._open_from, self.next, _entries(self._packed())
        block = self._blocks[bisect_right(self._blocks, number, key=_start) - 1]
        return block.start, block.end, _entries(block.packed)


def _start(block: _Block) -> int:
    return block.start


def _entries(packed: bytes) -> list[Entry]:
    return [Entry(one.at, one.kind, _UNPACK_CONTENT[one.kind](one.content)) for one in _unpack(packed)]


def _readable(content: Seen) -> Seen:
    """Put replacement characters in place of bytes that are not UTF-8."""
    texts = {name: value for name, value in msgspec.structs.asdict(content).items() if isinstance(value, str)}
    readable = {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    return msgspec.structs.replace(
        content, **{name: text.decode("utf-8", "replace") for name, text in readable.items()}
    )
