"""What a reader of the stream wants, and where it starts. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.language.patterns import matches
from gatehouse.telemetry.live import LeftOut

if TYPE_CHECKING:
    from gatehouse.telemetry.live import Entry, Kind

#: The kinds that a reader can ask for.
KINDS: Final[tuple[Kind, ...]] = ("request", "event", "attempt")
#: The boot of a position that is only a time: no process has it.
NO_BOOT: Final = "0"

_ID = re.compile(r"(\d{1,14})-([0-9a-z]{1,16})-(\d{1,18})", re.ASCII)


class Wanted(NamedTuple):
    """What a reader wants. Readers that want the same share their view."""

    source: str | None = None
    #: A pattern as in a route: `invoice.*`.
    type: str | None = None
    destination: str | None = None
    kinds: frozenset[Kind] = frozenset(KINDS)
    #: Whether events have their body.
    bodies: bool = False
    #: Whether events have the body that a destination gets.
    envelope: bool = False
    #: The most entries per second. The others are left out.
    at_most: int | None = None

    def includes(self, entry: Entry) -> bool:
        """Return whether the reader wants an entry."""
        seen = entry.content
        if isinstance(seen, LeftOut):
            # An unknown number after a restart does not include events, which come from the store.
            return bool(self.kinds - {"event"}) or seen.count is not None
        if entry.kind not in self.kinds:
            return False
        if self.source is not None and seen.source != self.source:
            return False
        if self.type is not None and (seen.type is None or not matches(self.type, seen.type)):
            return False
        return self.destination is None or self.destination in seen.destinations


class Position(NamedTuple):
    """A position in the stream, which a reader resumes from: the id of the last entry that it got."""

    #: When the entry was published, or when its event was received (Unix milliseconds).
    ms: int
    #: The process whose numbers these are.
    boot: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Parse the id of an entry; None for anything else."""
        found = _ID.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2], int(found[3]))

    @classmethod
    def at(cls, seconds: float) -> Position:
        """Return the position of what was received at a time."""
        return cls(int(seconds * 1000), NO_BOOT, 0)

    def __str__(self) -> str:
        return f"{self.ms}-{self.boot}-{self.number}"
