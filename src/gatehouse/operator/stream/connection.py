"""One client of the stream: its connection, its position, and what it has of the entries after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gatehouse.operator.stream.entries import HEARTBEAT, encode_content, sse_block, sse_position
from gatehouse.operator.stream.view import TICK
from gatehouse.operator.stream.wanted import Position
from gatehouse.telemetry.live import EventSeen, LeftOut

if TYPE_CHECKING:
    from gatehouse.operator.stream.view import View
    from gatehouse.telemetry.live import Entry, Hub

#: The most bytes and chunks of one step, so that a client that does not read holds little memory.
_STEP_BYTES: Final = 128 * 1024
_STEP_CHUNKS: Final = 2


class Connection:
    """Writes server-sent events to a client, without waiting for it."""

    def __init__(self, transport: asyncio.Transport, *, chunked: bool) -> None:
        """`chunked` is the transfer coding of HTTP/1.1, which frames what is written."""
        self._transport = transport
        self._chunked = chunked
        #: Whether the last bytes were written.
        self.has_ended = False

    @property
    def is_gone(self) -> bool:
        """Whether the client is no longer there."""
        return self._transport.is_closing()

    @property
    def is_blocked(self) -> bool:
        """Whether the client has yet to read what was written before."""
        return self._transport.get_write_buffer_size() > 0

    def write(self, data: bytes) -> None:
        """Write some events."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, last: bytes) -> None:
        """Write the last bytes. A client that does not read is cut off, because nobody waits for it."""
        if self.has_ended or self.is_gone:
            return
        self.has_ended = True
        if self.is_blocked:
            self._transport.abort()
        else:
            self.write(last)


class Reader:
    """A client that has caught up, and its position in the hub."""

    def __init__(
        self, connection: Connection, view: View, hub: Hub, position: int, heartbeat: float, now: float
    ) -> None:
        """`heartbeat` is the time between two heartbeats, and `now` the time of the event loop (seconds)."""
        self.connection = connection
        self.view = view
        #: The number of the next entry.
        self.position = position
        #: Set when nothing more will be written.
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hub = hub
        self._heartbeat = heartbeat
        self._beats_at = now + heartbeat
        self._events_from = 0
        self._known: frozenset[str] = frozenset()
        self._known_until = 0.0
        #: When a reader with a limited rate gets something again (time of the event loop).
        self._due_at = 0.0

    def skip(self, *, events_before: int, known: frozenset[str], until: float) -> None:
        """Skip events that the client has from the store.

        These are the events before a number, and until a time of the event loop those with a known id.
        """
        self._events_from, self._known, self._known_until = events_before, known, until

    @property
    def is_behind(self) -> bool:
        """Whether there is something to write."""
        return self.position < self._hub.next

    def is_due(self, now: float) -> bool:
        """Whether it is time to write to the reader. With a limited rate, all have the same times."""
        return now >= self._due_at

    def step(self, now: float) -> tuple[int, int]:
        """Write what is new, up to a limit. Returns the bytes written, and how many entries were left out."""
        written = left_out = 0
        kept_from = self._hub.kept_from
        if self.position < kept_from:
            left_out = kept_from - self.position
            self.position = kept_from
            self.connection.write(self.left_out(left_out))
        is_limited = self.view.wanted.at_most is not None
        if is_limited:
            self._due_at = (now // TICK + 1) * TICK
        for _ in range(1 if is_limited else _STEP_CHUNKS):
            if not self.is_behind or written >= _STEP_BYTES:
                break
            written += self._write_chunk(now)
        if now >= self._beats_at:
            self._beats_at = now + self._heartbeat
            self.connection.write(HEARTBEAT + self.here())
        return written, left_out

    def left_out(self, count: int | None) -> bytes:
        """Tell how many entries before the position the client did not get."""
        data = encode_content(self._hub.clock(), LeftOut(count))
        return sse_block(self._position(), "left_out", data)

    def here(self) -> bytes:
        """Tell the client its position, although no entry came."""
        return sse_position(self._position())

    def _position(self) -> Position:
        """Return the position: everything that was published before it is written."""
        hub = self._hub
        at = hub.entry(self.position).at if self.is_behind else hub.clock()
        return Position(int(at * 1000), hub.boot, self.position - 1)

    def _write_chunk(self, now: float) -> int:
        if self.position < self._events_from or self._known:
            chunk = self.view.read_without(self.position, self._is_known)
            if now >= self._known_until:
                self._known = frozenset()
        else:
            chunk = self.view.read(self.position)
        self.position = chunk.next
        if chunk.data:
            self.connection.write(chunk.data)
        return len(chunk.data)

    def _is_known(self, number: int, entry: Entry) -> bool:
        seen = entry.content
        return isinstance(seen, EventSeen) and (number < self._events_from or seen.id in self._known)
