"""Sends stored events to a client until it has caught up with the hub.

Events that were received a while ago have all been committed: they are sent first. The others may be
committed while the store is read. For them, the position in the hub before the reading counts: what was
committed before is read, and what is committed later comes through the hub. What comes in both ways is sent
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from gatehouse.operator.stream.entries import encode_content, show_event, sse_block
from gatehouse.operator.stream.wanted import Position
from gatehouse.store.records import EventQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gatehouse.events.event import Event
    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.store.base import Store
    from gatehouse.store.records import EventFacts
    from gatehouse.telemetry.live import Hub

#: Events of one page.
_PAGE = 200


class PastEvent(NamedTuple):
    """A stored event, encoded as the client wants it."""

    id: str
    #: Unix seconds.
    received: float
    data: bytes


class Past(Protocol):
    """Where stored events come from."""

    def events(self, wanted: Wanted, since: float, until: float | None) -> AsyncIterator[list[PastEvent]]:
        """Yield pages of the events that were received since a time and before another, from old to new.

        Raises `GatewayError` if they can't be read.
        """


class StoredPast:
    """Reads the events from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def events(
        self, wanted: Wanted, since: float, until: float | None
    ) -> AsyncIterator[list[PastEvent]]:
        """Yield pages of events, from old to new. Raises `StoreError`."""
        query = EventQuery(source=wanted.source, type=wanted.type, since=since, until=until)
        cursor, is_last = None, False
        while not is_last:
            page = await self._store.events_onward(
                query, destination=wanted.destination, limit=_PAGE, cursor=cursor
            )
            cursor, is_last = page.cursor, page.cursor is None
            if wanted.bodies or wanted.envelope:
                # Bodies can be long, so that only one is in memory at a time.
                for facts in page.items:
                    stored = await self._store.event(facts.id)
                    if stored is not None:  # a purge may have removed it meanwhile
                        yield [_past_event(stored.event, facts.destinations, wanted)]
            elif page.items:
                yield [_past_event(facts, facts.destinations, wanted) for facts in page.items]


def _past_event(event: Event | EventFacts, destinations: tuple[str, ...], wanted: Wanted) -> PastEvent:
    shown = show_event(event, destinations, wanted)
    return PastEvent(event.id, event.received, encode_content(event.received, shown))


class CaughtUp(NamedTuple):
    """Where the hub continues after the store."""

    #: Events before this number of the hub are sent.
    events_before: int
    #: Later events in the hub that are sent too.
    known: frozenset[str]


class CatchingUp:
    """Sends stored events to one client."""

    def __init__(
        self, past: Past, hub: Hub, wanted: Wanted, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """`write` returns when the client has taken the bytes, or most of them."""
        self._past = past
        self._hub = hub
        self._wanted = wanted
        self._write = write
        #: When each sent event was received, by its id; only of those that can come again.
        self._sent: dict[str, float] = {}

    async def until(self, since: float, until: float) -> None:
        """Send the events that were received between two times (Unix seconds)."""
        async for page in self._past.events(self._wanted, since, until):
            await self._write(b"".join(map(_block, page)))

    async def to_hub(self, since: float, overlap: float) -> CaughtUp:
        """Send the events since a time (Unix seconds), up to those that come through the hub.

        `overlap` is the longest time from the receipt of an event to its commit (seconds).
        """
        while True:
            settled = self._hub.clock() - overlap
            if since < settled:
                await self._send(since, settled)
                since = settled
                self._sent = {one: at for one, at in self._sent.items() if at >= settled}
            events_before = self._hub.next
            await self._send(since, None)
            if self._hub.kept_from <= events_before:
                return CaughtUp(events_before, frozenset(self._sent))
            # It took so long that the hub no longer has all later events, but the store does.

    async def _send(self, since: float, until: float | None) -> None:
        async for page in self._past.events(self._wanted, since, until):
            new = [event for event in page if event.id not in self._sent]
            if until is None:
                self._sent |= {event.id: event.received for event in new}
            if new:
                await self._write(b"".join(map(_block, new)))


def _block(event: PastEvent) -> bytes:
    return sse_block(Position.at(event.received), "event", event.data)
