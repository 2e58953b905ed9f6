"""Leases a lane's deliveries from the store when they are due, and gives back what the lane can't take.

New deliveries reach a lane from memory. The store holds what is due again, what found no room in memory,
and what an earlier process left behind. The lane asks the store at its start, when a delivery that it knows
of falls due, when a delivery found no room, again at once when it got as many as it asked for, and at the
store's own interval, which finds what other processes left.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from gatehouse.errors import StoreUnavailableError
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.store.base import Delivery, Store, Which

#: The longest pause.
_LONGEST_PAUSE = 30.0
#: The shortest pause between looks: what falls due within it is fetched together.
_SHORTEST_PAUSE = 0.01
#: How many are given back in one transaction: others wait to commit meanwhile.
_RELEASED_AT_ONCE = 1000
#: How many that were held back are made due in one transaction.
_FREED_AT_ONCE = 1000
#: How often to look for what is held back, where nothing told of it (seconds).
_FREE_EVERY = 30.0
#: After a fault of the store.
_PAUSE_AFTER_FAULT = 1.0


class LeasingLane(Protocol):
    """What the supply needs of its lane."""

    def demand(self) -> int:
        """Return how many deliveries the lane has room for, if it may attempt any now."""

    def delay(self) -> float:
        """Return how long until the lane may attempt anything; infinite when only an outcome can tell."""

    def take(self, delivery: Delivery) -> None:
        """Take a leased delivery."""

    @property
    def is_probing(self) -> bool:
        """Whether what is fetched is to be a probe."""

    @property
    def suspects_poison(self) -> bool:
        """Whether the failures seen may be those of single events, so that others should be fetched too."""

    @property
    def has_enough_retries(self) -> bool:
        """Whether so many deliveries that were attempted before wait that only new ones are wanted."""


class Leaser:
    """Fetches deliveries for one lane, and returns those that it could not attempt."""

    def __init__(
        self, destination: Destination, store: Store, lane: LeasingLane, *, clock: Callable[[], float]
    ) -> None:
        self._destination = destination
        self._store = store
        self._lane = lane
        self._clock = clock
        self._check_at = 0.0
        #: There may be retries due that were left in the store, because enough of them wait.
        self._skipped_retries = False
        #: When to look for deliveries that are held back, although nothing here is in an order any more.
        self._free_held_at = 0.0
        #: The probe before, and how many there were: they are taken from both ends by turns.
        self._last_probe: str | None = None
        self._probe_count = 0
        #: Something is due that the lane has no room for, or may not attempt yet.
        self.is_blocked = False
        self._returned: list[Delivery] = []
        self._wakeup = asyncio.Event()
        self._stopped = False
        #: Who looks instead, once the lane has a successor.
        self._successor: Leaser | None = None

    async def run(self) -> None:
        """Keep the lane supplied, until `stop`."""
        while not self._stopped:
            pause = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()
            self._wakeup.clear()

    def stop(self) -> None:
        """Let `run` end after what it is at: deliveries that the store is leasing just now are not lost."""
        self._stopped = True
        self._wakeup.set()

    def set_successor(self, successor: Leaser) -> None:
        """Leave it to another lane's supply to look, from now on."""
        self._successor = successor
        # What was given back before there was a successor.
        successor.check_store()

    def check_store(self) -> None:
        """Look as soon as the lane has room: there is something, or may be."""
        self.check_store_at(self._clock())

    def delivery_stored(self) -> None:
        """Look for a new delivery that is in the store only: overflowed, or held back."""
        self._free_held_at = 0.0
        self.check_store()

    def check_store_at(self, moment: float) -> None:
        """Look when something falls due, if not sooner."""
        if self._successor is not None:
            self._successor.check_store_at(moment)
            return
        if moment < self._check_at:
            self._check_at = moment
            self._wakeup.set()

    def room_freed(self) -> None:
        """Fetch what was held up."""
        if self.is_blocked:
            self._wakeup.set()

    def retry_room_freed(self) -> None:
        """Fetch the retries that were left in the store."""
        if self._skipped_retries:
            self._skipped_retries = False
            self.check_store()

    def put_back(self, delivery: Delivery) -> None:
        """Return a delivery that was not attempted, with the next turn."""
        self._returned.append(delivery)
        self.check_store()
        self._wakeup.set()

    async def release(self) -> None:
        """Give back what was put back: due at once, for whoever asks."""
        while self._returned:
            returned = self._returned[:_RELEASED_AT_ONCE]
            del self._returned[:_RELEASED_AT_ONCE]
            await self._store.release(returned)

    async def _step(self) -> float:
        """Do what there is to do. Returns how long to pause."""
        try:
            await self.release()
            if self._clock() >= self._check_at:
                await self._lease_due()
            return self._pause()
        except StoreUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - a lane never dies; what can't be read now may be later
            name = self._destination.name
            get_logger().error("delivery.failed", destination=name, error=type(error).__name__)
        self.check_store()
        self._wakeup.clear()
        return _PAUSE_AFTER_FAULT

    def _pause(self) -> float:
        wait = self._check_at - self._clock()
        self.is_blocked = wait <= 0 and not self._lane.demand()
        if self.is_blocked:
            wait = self._lane.delay() or _LONGEST_PAUSE
        return min(max(wait, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    async def _lease_due(self) -> None:
        limit = min(self._destination.lease_limit, self._lane.demand())
        if not limit:
            return
        now = self._clock()
        # Set before the store is asked: what `look_at` is told meanwhile counts.
        self._check_at = now + self._store.poll_every
        if self._lane.is_probing:
            for delivery in await self._probe():
                self._lane.take(delivery)
            return
        self._skipped_retries = self._lane.has_enough_retries
        which: Which = "new" if self._skipped_retries else "due"
        found = await self._lease(limit, which)
        if self._lane.suspects_poison and len(found) == limit:
            # What came last is put behind them, for the lane to take from that end, too.
            found += reversed(await self._lease(limit, "newest"))
        for delivery in found:
            self._lane.take(delivery)
        if len(found) >= limit:
            self.check_store_at(now)
        elif which == "due":
            due = await self._store.next_due(self._destination.name)
            if due is not None:
                self.check_store_at(due)
        if not self._destination.ordered and now >= self._free_held_at:
            await self._free_held(now)

    async def _free_held(self, now: float) -> None:
        """Let go what was held back by the order that the destination had before a reload."""
        self._free_held_at = now + _FREE_EVERY
        freed = _FREED_AT_ONCE
        while freed == _FREED_AT_ONCE:
            freed = await self._store.free_held(self._destination.name, limit=_FREED_AT_ONCE)
            if freed:
                self.check_store_at(now)

    async def _lease(self, limit: int, which: Which, other_than: str | None = None) -> list[Delivery]:
        now = self._clock()
        until, name = now + self._destination.lease_duration, self._destination.name
        return await self._store.lease(
            name, now=now, until=until, limit=limit, which=which, other_than=other_than
        )

    async def _probe(self) -> list[Delivery]:
        """Lease what tells best whether the destination is back: one that it never failed at.

        The last one that came and the one that waits longest take turns: all at one end may be events that it
        can't process. Without any, the next of those that failed, whether it is due or not, but not the one
        that was the last probe, unless there is no other.
        """
        self._probe_count += 1
        found = (
            await self._lease(1, "newest" if self._probe_count % 2 else "new")
            or await self._lease(1, "next", self._last_probe)
            or (await self._lease(1, "next") if self._last_probe else [])
        )
        self._last_probe = found[0].event.id if found else None
        return found
