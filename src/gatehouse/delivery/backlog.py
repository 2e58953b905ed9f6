"""The deliveries to one destination that wait in memory, bounded by number and by bytes.

There are two queues, each first in, first out: new deliveries, and retries. Retries of events that the
destination can't process may be many and slow. While new deliveries wait, retries get at most half of the
slots and half of the time, so new deliveries keep at least half of their speed. While only one kind waits,
it may take all the time, but retries never more than half of the slots, so that new deliveries always find
one free.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

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
        self._new: deque[Delivery] = deque()
        #: Those that were attempted before.
        self._retries: deque[Delivery] = deque()
        least = 1 / destination.rate if destination.rate else 0.0
        self._shares = Shares(destination.concurrency, least=least)
        #: Whether new ones come first, whatever their share: to find out if the destination fails at all.
        self.new_first = False
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
        return len(self._new) + len(self._retries)

    @property
    def room(self) -> int:
        """How many more may wait."""
        return 0 if self._bytes >= MAX_WAITING_BYTES else max(0, self._capacity - len(self._new))

    @property
    def plenty(self) -> bool:
        """Whether so many new ones wait that no more need be fetched."""
        return len(self._new) > self._plenty

    @property
    def plenty_of_retries(self) -> bool:
        """Whether so many retries wait that only new ones need be fetched."""
        return len(self._retries) > self._plenty

    @property
    def some_may_start(self) -> bool:
        """Whether one waits whose turn it is."""
        return bool(self._new) or (bool(self._retries) and self._shares.may_retry)

    @property
    def is_new_next(self) -> bool:
        """Whether the next one to be taken is a new one."""
        return bool(self._new) and (self.new_first or self._shares.prefers_new or not self._retries)

    def put(self, delivery: Delivery) -> None:
        """Add a delivery behind the others of its kind."""
        (self._retries if delivery.attempts else self._new).append(delivery)
        self._bytes += len(delivery.event.body)
        self._came_before, self._came_at = self._came_at, time.monotonic()
        if self._measures and self._came_at - self._taken_since >= _LATELY:
            self._measure(self._came_at)
        if not delivery.attempts or self._shares.may_retry:
            self._some.set()
        self._wake_one()
        if self._wanted is not None and self._has(*self._wanted):
            self._enough.set()

    def _measure(self, now: float) -> None:
        ahead = self._taken / (now - self._taken_since) * _SECONDS_AHEAD
        self._capacity = min(MOST_WAITING, max(MAX_WAITING, int(ahead)))
        self._taken, self._taken_since = 0, now

    def first(self, *, newest: bool = False) -> Delivery:
        """Return the one that `take` would, and leave it there."""
        return self._next()[-1 if newest else 0]

    def take(self, *, newest: bool = False) -> Delivery:
        """Take the one that waits longest of those whose turn it is; of new ones, the last if `newest`."""
        queue = self._next() if self._retries else self._new
        delivery = queue.pop() if newest else queue.popleft()
        self._bytes -= len(delivery.event.body)
        self._taken += 1
        if not self._new and not self.some_may_start:
            self._some.clear()
        return delivery

    def take_all(self) -> list[Delivery]:
        """Take all that wait."""
        taken = [*self._new, *self._retries]
        self._new.clear()
        self._retries.clear()
        self._bytes = 0
        self._some.clear()
        return taken

    def retry_started(self) -> None:
        """Learn that a POST of retries starts."""
        self._shares.started()
        if not self.some_may_start:
            self._some.clear()

    def ended(self, took: float, *, retry: bool) -> None:
        """Learn that a POST ended, and how long it kept its worker (seconds)."""
        if not retry and not self._shares.owed:
            return  # as mostly: there are no retries
        self._shares.ended(took, retry=retry)
        if retry and self.some_may_start:
            self._some.set()

    def _next(self) -> deque[Delivery]:
        return self._new if self.is_new_next else self._retries

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
        """Wait until there is one that may start."""
        await self._some.wait()

    async def enough(self, count: int, size: int, linger: float) -> None:
        """Wait until there are `count` new ones or `size` bytes, at most for `linger` seconds.

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
        return len(self._new) >= count or self._bytes >= size

    def _quiet(self) -> float:
        return time.monotonic() - self._came_at


def _capacity(rate: float | None) -> int:
    return MAX_WAITING if rate is None else min(MAX_WAITING, max(1, int(rate * _SECONDS_WAITING)))


#: The most time that retries which ran alone owe to new ones, unless one of them took longer (seconds).
_MOST_OWED: Final = 60.0


class Shares:
    """The shares of one destination."""

    def __init__(self, slots: int, *, least: float = 0.0) -> None:
        """`least`: what an attempt costs at least (seconds), as with a rate."""
        self._most_retries = max(1, slots // 2)
        self._least = least
        self._retrying = 0
        #: How much more time retries had than new deliveries, lately.
        self.owed = 0.0

    @property
    def may_retry(self) -> bool:
        """Whether a slot is free for a retry."""
        return self._retrying < self._most_retries

    @property
    def prefers_new(self) -> bool:
        """Whether it is a new delivery's turn when both kinds wait."""
        return self.owed > 0 or not self.may_retry

    def started(self) -> None:
        """Count a retry that starts."""
        self._retrying += 1

    def ended(self, took: float, *, retry: bool) -> None:
        """Count an attempt that ended, and the time that it took (seconds)."""
        cost = max(took, self._least)
        if retry:
            self._retrying -= 1
            self.owed = min(self.owed + cost, max(_MOST_OWED, cost))
        else:
            self.owed = max(0.0, self.owed - cost)
