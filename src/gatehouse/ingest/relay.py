"""Relays events: forwards an event, commits it, and answers its provider with the destination's reply.

The event and the reply are committed together, and duplicates get the same reply. Before the commit nothing
is stored: if anything fails, the provider's next request is not a duplicate, and the event is forwarded
again with the same id.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec.structs import replace

from gatehouse.errors import RelayTimeoutError, StoreError, UnavailableError
from gatehouse.store.base import Assignment
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.events.event import Event
    from gatehouse.store.base import Arrival, Receipt, Reply

#: How many requests may wait for an earlier request with the same dedupe keys.
MAX_WAITING = 100
#: How many ids of forwarded but uncommitted events are remembered.
MAX_REMEMBERED = 10_000
#: Seconds for the store to look up an event.
_LOOKUP_TIMEOUT = 0.8

#: A dedupe key: its source, and its value in its scope.
_Key = tuple[str, bytes]


class RelayDispatcher(Protocol):
    """What the relay needs of the dispatcher."""

    async def relay(self, destination: str, event: Event, number: int, *, within: float) -> Reply:
        """Attempt a delivery now. Raises `RelayFailedError` or `UnavailableError`."""

    def count_relayed(self, destination: str, event: Event) -> None:
        """Note that the event is committed as delivered."""


class EventCommitter(Protocol):
    """What the relay needs of the committer."""

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        """Commit, or raise `UnavailableError`."""


class DedupeStore(Protocol):
    """What the relay needs of the store."""

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        """Return the receipt of a duplicate; None for a new event."""


class Relay:
    """Forwards events while their providers wait."""

    def __init__(self, committer: EventCommitter, store: DedupeStore, destinations: RelayDispatcher) -> None:
        self._committer = committer
        self._store = store
        self._destinations = destinations
        self._forwarded_ids = _ForwardedIds()
        self._active: dict[_Key, asyncio.Event] = {}
        self._waiting = 0

    async def accept(self, arrival: Arrival, *, now: float, within: float) -> Receipt:
        """Forward and commit an event, unless it is a duplicate. The receipt holds the destination's reply.

        `now` is in unix seconds. The reply must arrive `within` seconds, including the wait for other
        requests. Raises `RelayFailedError` when there is no reply, and `UnavailableError` for a fault of the
        gateway.
        """
        deadline = asyncio.get_running_loop().time() + within
        async with self._exclusive(_keys(arrival), deadline):
            return await self._find(arrival, now) or await self._forward(arrival, deadline)

    async def _find(self, arrival: Arrival, now: float) -> Receipt | None:
        if not any(arrival.keys):
            return None
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT):
                return await self._store.known(arrival.event.source, arrival.keys, now=now)
        except (StoreError, TimeoutError) as error:
            get_logger().error("store.unavailable", error=str(error), events=1)
            raise UnavailableError("the store is unavailable; send again later", reason="store") from error

    async def _forward(self, arrival: Arrival, deadline: float) -> Receipt:
        (assignment,) = arrival.assignments
        name, left = assignment.destination, deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise RelayTimeoutError("timeout")
        event, number = self._forwarded_ids.begin(arrival)
        reply = await self._destinations.relay(name, event, number, within=left)
        delivered = (Assignment(name, leased=False),)
        (receipt,) = await self._committer.accept(
            [replace(arrival, event=event, assignments=delivered, reply=reply)]
        )
        self._forwarded_ids.forget(arrival)
        if receipt.status != "accepted":
            return receipt
        self._destinations.count_relayed(name, event)
        return replace(receipt, reply=reply)

    @asynccontextmanager
    async def _exclusive(self, keys: Sequence[_Key], deadline: float) -> AsyncIterator[None]:
        """Process one request per event at a time: two simultaneous requests would both find no duplicate."""
        if self._in_progress(keys):
            await self._wait(keys, deadline)
        done = asyncio.Event()
        self._active.update(dict.fromkeys(keys, done))
        try:
            yield
        finally:
            for key in keys:
                del self._active[key]
            done.set()

    async def _wait(self, keys: Sequence[_Key], deadline: float) -> None:
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("the destination is busy; send again later", reason="busy")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                # Several requests may wait for the same one. The first to continue is the next to wait for.
                while ahead := self._in_progress(keys):
                    await ahead.wait()
        except TimeoutError as error:
            raise RelayTimeoutError("timeout") from error
        finally:
            self._waiting -= 1

    def _in_progress(self, keys: Sequence[_Key]) -> asyncio.Event | None:
        return next((self._active[key] for key in keys if key in self._active), None)


def _keys(arrival: Arrival) -> list[_Key]:
    source = arrival.event.source
    return list(dict.fromkeys((source, key.scoped) for key in arrival.keys if key is not None))


class _Forwarded(NamedTuple):
    event_id: str
    attempts: int


class _ForwardedIds:
    """The ids of forwarded but uncommitted events. The oldest are forgotten first.

    An event is identified by all its dedupe keys together. One key alone may be an unsigned id: then another
    event could be sent with this id, and the destination would treat it as a duplicate.
    """

    def __init__(self) -> None:
        self._forwarded: dict[frozenset[_Key], _Forwarded] = {}

    def begin(self, arrival: Arrival) -> tuple[Event, int]:
        """Return the event, with the id of an earlier attempt, and the number of this attempt."""
        event = arrival.event
        if not any(arrival.keys):
            return event, 1
        key = frozenset(_keys(arrival))
        event_id, attempts = self._forwarded.pop(key, _Forwarded(event.id, 0))
        if len(self._forwarded) >= MAX_REMEMBERED:
            del self._forwarded[next(iter(self._forwarded))]
        self._forwarded[key] = _Forwarded(event_id, attempts + 1)
        return _with_id(event, event_id), attempts + 1

    def forget(self, arrival: Arrival) -> None:
        """Forget a committed event: the store knows it now."""
        self._forwarded.pop(frozenset(_keys(arrival)), None)


def _with_id(event: Event, event_id: str) -> Event:
    own = event.external_id == event.id
    return replace(event, id=event_id, external_id=event_id if own else event.external_id)
