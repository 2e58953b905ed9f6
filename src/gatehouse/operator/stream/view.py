"""What readers with the same wishes share: the encoded entries. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.operator.stream.entries import sse_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.telemetry.live import Entry, Hub

#: A chunk ends at a multiple of this number of entries, so that readers who are at different positions soon
#: ask for the same chunks.
BLOCK: Final = 256
#: A chunk ends after the entry with which it has this many bytes.
CHUNK_BYTES: Final = 64 * 1024
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
            chunk = self._chunks[start] = self.read_without(start, lambda _number, _entry: False)
        return chunk

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
