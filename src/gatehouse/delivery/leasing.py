"""Leases due deliveries from the store for one lane, and returns those that the lane can't attempt.

New deliveries reach a lane through memory. The store holds retries, new deliveries that found no room in
memory, and deliveries that an earlier process left. The lane checks the store when it starts, when a known
delivery becomes due, when a delivery found no room, and again at once after a full result. It also polls at
the store's own interval, to find what other processes left.
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

#: Seconds: the longest pause between two steps.
_LONGEST_PAUSE = 30.0
#: Seconds: the shortest pause. Deliveries that become due within it are leased together.
_SHORTEST_PAUSE = 0.01
#: Deliveries returned per transaction. A larger transaction would delay other commits.
_RELEASED_AT_ONCE = 1000
#: Held-back deliveries made due per transaction.
_FREED_AT_ONCE = 1000
#: Seconds between two searches for held-back deliveries when nothing else caused one.
_FREE_EVERY = 30.0
#: Seconds to wait after a store error.
_PAUSE_AFTER_FAULT = 1.0


class LeasingLane(Protocol):
    """What the leaser needs from its lane."""

    def demand(self) -> int:
        """Return how many deliveries the lane can take and may attempt now."""

    def delay(self) -> float:
        """Return the seconds until the lane may start an attempt; infinite if only an outcome can tell."""

    def take(self, delivery: Delivery) -> None:
        """Take a leased delivery."""

    @property
    def is_probing(self) -> bool:
        """Whether the next leased delivery will be a probe."""

    @property
    def suspects_poison(self) -> bool:
        """Whether recent failures may come from single events, so that other events should be leased too."""

    @property
    def has_enough_retries(self) -> bool:
        """Whether enough retries wait in memory, so that only new deliveries are needed."""


class Leaser:
    """Leases deliveries for one lane and returns unattempted ones."""

    def __init__(
        self, destination: Destination, store: Store, lane: LeasingLane, *, clock: Callable[[], float]
    ) -> None:
        self._destination = destination
        self._store = store
        self._lane = lane
        self._clock = clock
        self._check_at = 0.0
        #: The last lease skipped due retries because enough retries waited in memory.
        self._skipped_retries = False
        #: When to search for deliveries held back by an order that the config no longer has.
        self._free_held_at = 0.0
        #: The event of the last probe, and the number of probes so far: they alternate between both ends.
        self._last_probe: str | None = None
        self._probe_count = 0
        #: Something is due, but the lane has no room for it or may not attempt it yet.
        self.is_blocked = False
        self._returned: list[Delivery] = []
        self._wakeup = asyncio.Event()
        self._stopped = False
        #: The leaser of the successor, which checks the store from now on.
        self._successor: Leaser | None = None

    async def run(self) -> None:
        """Lease deliveries until `stop`."""
        while not self._stopped:
            pause = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()
            self._wakeup.clear()

    def stop(self) -> None:
        """Let `run` end after its current step, so that no delivery that is being leased is lost."""
        self._stopped = True
        self._wakeup.set()

    def set_successor(self, successor: Leaser) -> None:
        """Let another lane's leaser check the store from now on."""
        self._successor = successor
        # This lane may have returned deliveries before it had a successor.
        successor.check_store()

    def check_store(self) -> None:
        """Check the store as soon as the lane has room."""
        self.check_store_at(self._clock())

    def delivery_stored(self) -> None:
        """Check the store for a new delivery that is only there, because it overflowed or is held back."""
        self._free_held_at = 0.0
        self.check_store()

    def check_store_at(self, moment: float) -> None:
        """Check the store at the given time or earlier."""
        if self._successor is not None:
            self._successor.check_store_at(moment)
            return
        if moment < self._check_at:
            self._check_at = moment
            self._wakeup.set()

    def room_freed(self) -> None:
        """Lease what was waiting for room."""
        if self.is_blocked:
            self._wakeup.set()

    def retry_room_freed(self) -> None:
        """Lease the retries that were left in the store."""
        if self._skipped_retries:
            self._skipped_retries = False
            self.check_store()

    def put_back(self, delivery: Delivery) -> None:
        """Return a delivery that was not attempted. It is written with the next step."""
        self._returned.append(delivery)
        self.check_store()
        self._wakeup.set()

    async def release(self) -> None:
        """Write the returned deliveries. They are due at once, for any process."""
        while self._returned:
            returned = self._returned[:_RELEASED_AT_ONCE]
            del self._returned[:_RELEASED_AT_ONCE]
            await self._store.release(returned)

    async def _step(self) -> float:
        """Return deliveries, then lease if it is time. Returns the seconds to pause."""
        try:
            await self.release()
            if self._clock() >= self._check_at:
                await self._lease_due()
            return self._pause()
        except StoreUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - a lane keeps running; the next step may succeed
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
        # Set before the store is asked, so that calls of `check_store_at` during the query are not lost.
        self._check_at = now + self._store.poll_every
        if self._lane.is_probing:
            for delivery in await self._probe():
                self._lane.take(delivery)
            return
        self._skipped_retries = self._lane.has_enough_retries
        which: Which = "new" if self._skipped_retries else "due"
        found = await self._lease(limit, which)
        if self._lane.suspects_poison and len(found) == limit:
            # The newest ones are added in reverse, because the lane takes them from the end.
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
        """Make deliveries due that are held back by an order that the config no longer has."""
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
        """Lease the delivery that best shows whether the destination is back: one that has not failed yet.

        Probes alternate between the newest and the oldest such delivery, because all events at one end may be
        events that the destination can't process. If there is none, take the next failed delivery, due or
        not. Skip the last probe's event unless it is the only one.
        """
        self._probe_count += 1
        found = (
            await self._lease(1, "newest" if self._probe_count % 2 else "new")
            or await self._lease(1, "next", self._last_probe)
            or (await self._lease(1, "next") if self._last_probe else [])
        )
        self._last_probe = found[0].event.id if found else None
        return found
