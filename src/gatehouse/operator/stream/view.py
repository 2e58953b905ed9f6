"""What readers with the same wishes share: the encoded entries. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.operator.stream.entries import encode_content, sse_block, sse_entry
from gatehouse.operator.stream.wanted import Position
from gatehouse.telemetry.live import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.telemetry.live import Entry, Hub

#: A chunk ends at a multiple of this number of entries, so that readers who are at different positions soon
#: ask for the same chunks.
BLOCK: Final = 256
#: A chunk ends after the entry with which it has this many bytes.
CHUNK_BYTES: Final = 64 * 1024
#: Seconds between two writes to readers with a limited rate. They share what they get at the same time.
TICK: Final = 0.5
#: The chunks that are kept for other readers.
_KEPT: Final = 8


class Chunk(NamedTuple):
    """Encoded entries that follow each other."""

    #: The number of the entry after the last one.
    next: int
    #: Empty if no entry is wanted.
    data: bytes


class View:
    """The entries that some readers want."""

    def __init__(self, hub: Hub, wanted: Wanted) -> None:
        self.wanted = wanted
        self._hub = hub
        self._chunks: dict[int, Chunk] = {}

    def read(self, start: int) -> Chunk:
        """Return the entries from a kept number on, at most to the end of the block."""
        chunk = self._chunks.get(start)
        if chunk is None:
            if len(self._chunks) >= _KEPT:
                del self._chunks[next(iter(self._chunks))]
            chunk = self._chunks[start] = self._read(start)
        return chunk

    def _read(self, start: int) -> Chunk:
        if self.wanted.at_most is not None:
            return self._newest(start, max(1, int(self.wanted.at_most * TICK)))
        return self.read_without(start, lambda _number, _entry: False)

    def _newest(self, start: int, most: int) -> Chunk:
        """Return the newest entries, and before them how many others are left out."""
        hub, wanted = self._hub, self.wanted
        newest: deque[int] = deque(maxlen=most)
        found, passed_on = 0, []
        for number in range(start, hub.next):
            entry = hub.entry(number)
            if entry.kind == "left_out":  # of a worker; a rare one
                passed_on += [number] if wanted.includes(entry) else []
            elif wanted.includes(entry):
                newest.append(number)
                found += 1
        parts = [sse_entry(hub.entry(number), hub.boot, number, wanted) for number in passed_on]
        if found > len(newest):
            parts.append(self._left_out(newest[0], found - len(newest)))
        parts += [sse_entry(hub.entry(number), hub.boot, number, wanted) for number in newest]
        return Chunk(hub.next, b"".join(parts))

    def _left_out(self, before: int, count: int) -> bytes:
        at = self._hub.entry(before).at
        data = encode_content(at, LeftOut(count))
        return sse_block(Position(int(at * 1000), self._hub.boot, before - 1), "left_out", data)

    def read_without(self, start: int, is_known: Callable[[int, Entry], bool]) -> Chunk:
        """Read entries for one reader, without those that it knows already."""
        hub, wanted, parts, size = self._hub, self.wanted, [], 0
        number, end = start, min(hub.next, (start // BLOCK + 1) * BLOCK)
        while number < end and size < CHUNK_BYTES:
            entry = hub.entry(number)
            if wanted.includes(entry) and not is_known(number, entry):
                part = sse_entry(entry, hub.boot, number, wanted)
                parts.append(part)
                size += len(part)
            number += 1
        return Chunk(number, b"".join(parts))
