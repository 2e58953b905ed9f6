"""Remembers which events providers sent again, in memory only, for the operator."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

#: Events of which duplicates are remembered. Beyond that, the one whose last duplicate is the oldest is
#: forgotten.
MAX_EVENTS: Final = 10_000
#: Duplicates of an event that are remembered one by one. Earlier ones are only counted.
MAX_LATEST: Final = 20


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """A later request with the same event."""

    #: When it was received (unix seconds).
    at: float
    #: The address it came from, as in the log.
    client: str | None


class KnownDuplicates(msgspec.Struct):
    """The later requests with one event."""

    count: int = 0
    #: The last ones, oldest first.
    latest: list[Duplicate] = []


class Duplicates:
    """The duplicates of events: about 17 MiB at most. A new event costs nothing here."""

    def __init__(self, now: float, *, max_events: int = MAX_EVENTS) -> None:
        self._since = now
        self._max_events = max_events
        #: By the event's id. The event with the latest duplicate is at the end.
        self._known: dict[str, KnownDuplicates] = {}

    @property
    def since(self) -> float:
        """All duplicates from this time on are counted (unix seconds).

        That is when the process started, or the last duplicate that was forgotten to make room.
        """
        return self._since

    def add(self, event_id: str, at: float, client: str | None) -> None:
        """Remember a duplicate."""
        known = self._known.pop(event_id, None) or KnownDuplicates()
        known.count += 1
        # Most come from the same few addresses, and each request has its own text of the address.
        known.latest.append(Duplicate(at, client and sys.intern(client)))
        if len(known.latest) > MAX_LATEST:
            del known.latest[0]
        self._known[event_id] = known
        if len(self._known) > self._max_events:
            forgotten = self._known.pop(next(iter(self._known)))
            self._since = forgotten.latest[-1].at

    def of(self, event_id: str) -> KnownDuplicates:
        """Return the duplicates of an event, which may be none."""
        return self._known.get(event_id) or KnownDuplicates()
