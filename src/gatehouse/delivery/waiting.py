"""What waits in memory for one destination: first in, first out, bounded by number and by bytes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatehouse.delivery.destination import Destination
    from gatehouse.store.base import Delivery

#: How many may wait for a destination that is slow, or of which nothing is known.
MAX_WAITING = 1000
#: How many for one that is fast. What finds no room is read from the store again, which costs a tenth more.
MOST_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
#: No more wait than were taken lately in so many seconds: half of what their leases leave, if it gets slower.
_SECONDS_AHEAD = 5.0
#: Seconds after which it is looked at again how many were taken.
_LATELY = 0.1
#: With a rate, no more waits in memory than can start in this many seconds: the rest would outwait its lease.
_SECONDS_WAITING = 10.0


class Waiting:
    """The deliveries of one lane that no worker has yet.

    Workers that need only one each all wait for `another`. For `some` and `enough`, one waits at a time.
    """

    def __init__(self, destination: Destination) -> None:
        self._deliveries: deque[Delivery] = deque()
        #: The bytes of their events' bodies.
        self._bytes = 0
        self._capacity = _capacity(destination.rate)
        #: While more wait, no more are fetched: a batch shall not outwait its lease.
        self._plenty = min(destination.fetch, self._capacity) // 2
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        #: Workers that wait for one delivery each.
        self._idle: deque[asyncio.Future[None]] = deque()
        #: How many, and how many bytes, a worker waits for.
        self._wanted: tuple[int, int] | None = None
        self._came_at = self._came_before = 0.0
        #: Without a rate: how many were taken since when.
        self._measures = destination.rate is None
        self._taken = 0
        self._taken_since = time.monotonic()

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def room(self) -> int:
        """How many more may wait."""
        return 0 if self._bytes >= MAX_WAITING_BYTES else max(0, self._capacity - len(self._deliveries))

    @property
    def plenty(self) -> bool:
        """Whether so many wait that no more need be fetched."""
        return len(self._deliveries) > self._plenty

    def put(self, delivery: Delivery) -> None:
        """Add a delivery behind the others."""
        self._deliveries.append(delivery)
        self._bytes += len(delivery.event.body)
        self._came_before, self._came_at = self._came_at, time.monotonic()
        if self._measures and self._came_at - self._taken_since >= _LATELY:
            self._measure(self._came_at)
        self._some.set()
        self._wake_one()
        if self._wanted is not None and self._has(*self._wanted):
            self._enough.set()

    def _measure(self, now: float) -> None:
        ahead = self._taken / (now - self._taken_since) * _SECONDS_AHEAD
        self._capacity = min(MOST_WAITING, max(MAX_WAITING, int(ahead)))
        self._taken, self._taken_since = 0, now

    def first(self) -> Delivery:
        """Return the one that waits longest, and leave it there."""
        return self._deliveries[0]

    def take(self) -> Delivery:
        """Take the one that waits longest."""
        delivery = self._deliveries.popleft()
        self._bytes -= len(delivery.event.body)
        self._taken += 1
        if not self._deliveries:
            self._some.clear()
        return delivery

    async def another(self) -> None:
        """Wait until one was put for which no other worker was woken. It may be gone by then all the same."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(woken)
        await woken

    def _wake_one(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():  # the worker was not stopped meanwhile
                idle.set_result(None)
                return

    async def some(self) -> None:
        """Wait until there is one."""
        await self._some.wait()

    async def enough(self, count: int, size: int, linger: float) -> None:
        """Wait until there are `count` of them or `size` bytes, at most for `linger` seconds.

        Not at all when none is coming: when the last two did not follow one another within that time. What
        comes alone shall not wait for company that it never gets.
        """
        if self._has(count, size) or max(self._came_at - self._came_before, self._quiet()) > linger:
            return
        self._wanted = count, size
        self._enough.clear()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._enough.wait()
        finally:
            self._wanted = None

    def _has(self, count: int, size: int) -> bool:
        return len(self._deliveries) >= count or self._bytes >= size

    def _quiet(self) -> float:
        return time.monotonic() - self._came_at


def _capacity(rate: float | None) -> int:
    return MAX_WAITING if rate is None else min(MAX_WAITING, max(1, int(rate * _SECONDS_WAITING)))
