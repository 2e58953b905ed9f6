"""Keeps the latest requests, events and attempts in memory, for the readers of the stream. Pure.

While there are no readers, publishing costs one check of `Hub.active`. Entries are kept unencoded in a ring,
which all readers share. A reader is only a position in the ring. A reader that falls behind the start of the
ring has lost entries, and knows how many.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

#: What an entry is about. `left_out` is only passed on by a supervisor, about its workers.
Kind = Literal["request", "event", "attempt", "left_out"]

#: The most entries, and the most bytes that they hold together beyond their fixed parts.
MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024


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


class Entry(NamedTuple):
    """One entry of the ring."""

    #: Unix seconds.
    at: float
    kind: Kind
    source: str | None
    #: The type of the event, or of a request's first event.
    type: str | None
    #: Where an event is delivered to, or the destination of an attempt.
    destinations: tuple[str, ...]
    #: A `RequestSeen`, an `AttemptSeen`, or an event.
    content: object
    #: The bytes that it holds.
    size: int


class Hub:
    """The ring of the latest entries. Entries are numbered; numbers never come again.

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
        #: Distinguishes this process from an earlier one, whose numbers mean something else.
        self.boot = secrets.token_hex(4)
        self.kept_from = 1
        self.next = 1
        self.clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ring: list[Entry | None] = []
        self._bytes = 0
        self._wake: Callable[[], None] | None = None

    def activate(self) -> None:
        """Keep what is published from now on."""
        if not self.active:
            self.active, self._ring = True, [None] * self._max_entries

    def deactivate(self) -> None:
        """Forget all entries, and keep none from now on."""
        # One number is left out: a reader that comes back must not look as if it had missed nothing.
        self.active, self._ring, self._bytes = False, [], 0
        self.next += 1
        self.kept_from = self.next

    def publish(
        self,
        kind: Kind,
        content: object,
        *,
        source: str | None = None,
        event_type: str | None = None,
        destinations: tuple[str, ...] = (),
        size: int = 0,
    ) -> None:
        """Add an entry. Call it only while `active`."""
        number = self.next
        if number - self.kept_from == self._max_entries:
            self._drop_oldest()
        entry = Entry(self.clock(), kind, source, event_type, destinations, content, size)
        self._ring[number % self._max_entries] = entry
        self.next = number + 1
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop_oldest()
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    def entry(self, number: int) -> Entry:
        """Return a kept entry."""
        entry = self._ring[number % self._max_entries]
        assert entry is not None, "not kept"  # noqa: S101 - a defect
        return entry

    def call_at_next(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when the next entry is published."""
        self._wake = wake

    def _drop_oldest(self) -> None:
        place = self.kept_from % self._max_entries
        oldest = self._ring[place]
        self._ring[place] = None
        self.kept_from += 1
        self._bytes -= oldest.size if oldest is not None else 0
