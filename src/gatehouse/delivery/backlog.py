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
MIN_CAPACITY = 1000
#: How many for one that is fast. What finds no room is read from the store again, which costs a tenth more.
MAX_CAPACITY = 10_000
MAX_BYTES = 16 * 1024 * 1024
#: No more wait than were taken lately in so many seconds: half of what their leases leave, if it gets slower.
_SECONDS_AHEAD = 5.0
#: Seconds after which it is looked at again how many were taken.
_MEASURE_EVERY = 0.1
#: With a rate, no more waits in memory than can start in this many seconds: the rest would outwait its lease.
_RATE_SECONDS = 10.0


class Backlog:
    """The deliveries of one lane that no worker has yet.

    Workers that need only one each all wait for `another`. For `some` and `enough`, one waits at a time.
    """

    def __init__(self, destination: Destination) -> None:
        self._new: deque[Delivery] = deque()
        #: Those that were attempted before.
        self._retries: deque[Delivery] = deque()
        min_cost = 1 / destination.rate if destination.rate else 0.0
        self._retry_share = RetryShare(destination.concurrency, min_cost=min_cost)
        #: Whether new ones come first, whatever their share: to find out if the destination fails at all.
        self.prefer_new = False
        #: The bytes of their events' bodies.
        self._bytes = 0
        self._capacity = _capacity(destination.rate)
        #: While more wait, no more are fetched: a batch shall not outwait its lease.
        self._enough_waiting = min(destination.lease_limit, self._capacity) // 2
        self._startable = asyncio.Event()
        self._batch_ready = asyncio.Event()
        #: Workers that wait for one delivery each.
        self._waiters: deque[asyncio.Future[None]] = deque()
        #: How many, and how many bytes, a worker waits for.
        self._wanted: tuple[int, int] | None = None
        self._last_put = self._previous_put = 0.0
        #: Without a rate: how many were taken since when.
        self._is_adaptive = destination.rate is None
        self._taken = 0
        self._taken_since = time.monotonic()

    def __len__(self) -> int:
        return len(self._new) + len(self._retries)

    @property
    def room(self) -> int:
        """How many more may wait."""
        return 0 if self._bytes >= MAX_BYTES else max(0, self._capacity - len(self._new))

    @property
    def has_enough_new(self) -> bool:
        """Whether so many new ones wait that no more need be fetched."""
        return len(self._new) > self._enough_waiting

    @property
    def has_enough_retries(self) -> bool:
        """Whether so many retries wait that only new ones need be fetched."""
        return len(self._retries) > self._enough_waiting

    @property
    def has_startable(self) -> bool:
        """Whether one waits whose turn it is."""
        return bool(self._new) or (bool(self._retries) and self._retry_share.may_retry)

    @property
    def next_is_new(self) -> bool:
        """Whether the next one to be taken is a new one."""
        return bool(self._new) and (self.prefer_new or self._retry_share.prefers_new or not self._retries)

    def put(self, delivery: Delivery) -> None:
        """Add a delivery behind the others of its kind."""
        (self._retries if delivery.attempts else self._new).append(delivery)
        self._bytes += len(delivery.event.body)
        self._previous_put, self._last_put = self._last_put, time.monotonic()
        if self._is_adaptive and self._last_put - self._taken_since >= _MEASURE_EVERY:
            self._measure(self._last_put)
        if not delivery.attempts or self._retry_share.may_retry:
            self._startable.set()
        self._wake_one()
        if self._wanted is not None and self._is_ready(*self._wanted):
            self._batch_ready.set()

    def _measure(self, now: float) -> None:
        ahead = self._taken / (now - self._taken_since) * _SECONDS_AHEAD
        self._capacity = min(MAX_CAPACITY, max(MIN_CAPACITY, int(ahead)))
        self._taken, self._taken_since = 0, now

    def peek(self, *, newest: bool = False) -> Delivery:
        """Return the one that `take` would, and leave it there."""
        return self._next()[-1 if newest else 0]

    def take(self, *, newest: bool = False) -> Delivery:
        """Take the one that waits longest of those whose turn it is; of new ones, the last if `newest`."""
        queue = self._next() if self._retries else self._new
        delivery = queue.pop() if newest else queue.popleft()
        self._bytes -= len(delivery.event.body)
        self._taken += 1
        if not self._new and not self.has_startable:
            self._startable.clear()
        return delivery

    def take_all(self) -> list[Delivery]:
        """Take all that wait."""
        taken = [*self._new, *self._retries]
        self._new.clear()
        self._retries.clear()
        self._bytes = 0
        self._startable.clear()
        return taken

    def retry_started(self) -> None:
        """Learn that a POST of retries starts."""
        self._retry_share.started()
        if not self.has_startable:
            self._startable.clear()

    def attempt_ended(self, took: float, *, retry: bool) -> None:
        """Learn that a POST ended, and how long it kept its worker (seconds)."""
        if not retry and not self._retry_share.retry_lead:
            return  # as mostly: there are no retries
        self._retry_share.ended(took, retry=retry)
        if retry and self.has_startable:
            self._startable.set()

    def _next(self) -> deque[Delivery]:
        return self._new if self.next_is_new else self._retries

    async def wait_for_next(self) -> None:
        """Wait until one was put for which no other worker was woken. It may be gone by then all the same."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(woken)
        await woken

    def _wake_one(self) -> None:
        while self._waiters:
            idle = self._waiters.popleft()
            if not idle.done():  # the worker was not stopped meanwhile
                idle.set_result(None)
                return

    async def wait_startable(self) -> None:
        """Wait until there is one that may start."""
        await self._startable.wait()

    async def wait_for_batch(self, count: int, size: int, linger: float) -> None:
        """Wait until there are `count` new ones or `size` bytes, at most for `linger` seconds.

        Not at all when none is coming: when the last two did not follow one another within that time. What
        comes alone shall not wait for company that it never gets.
        """
        if (
            self._is_ready(count, size)
            or max(self._last_put - self._previous_put, self._idle_time()) > linger
        ):
            return
        self._wanted = count, size
        self._batch_ready.clear()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._batch_ready.wait()
        finally:
            self._wanted = None

    def _is_ready(self, count: int, size: int) -> bool:
        return len(self._new) >= count or self._bytes >= size

    def _idle_time(self) -> float:
        return time.monotonic() - self._last_put


def _capacity(rate: float | None) -> int:
    return MIN_CAPACITY if rate is None else min(MIN_CAPACITY, max(1, int(rate * _RATE_SECONDS)))


#: The most time that retries which ran alone owe to new ones, unless one of them took longer (seconds).
_MAX_LEAD: Final = 60.0


class RetryShare:
    """The shares of one destination."""

    def __init__(self, slots: int, *, min_cost: float = 0.0) -> None:
        """`least`: what an attempt costs at least (seconds), as with a rate."""
        self._max_retries = max(1, slots // 2)
        self._min_cost = min_cost
        self._running_retries = 0
        #: How much more time retries had than new deliveries, lately.
        self.retry_lead = 0.0

    @property
    def may_retry(self) -> bool:
        """Whether a slot is free for a retry."""
        return self._running_retries < self._max_retries

    @property
    def prefers_new(self) -> bool:
        """Whether it is a new delivery's turn when both kinds wait."""
        return self.retry_lead > 0 or not self.may_retry

    def started(self) -> None:
        """Count a retry that starts."""
        self._running_retries += 1

    def ended(self, took: float, *, retry: bool) -> None:
        """Count an attempt that ended, and the time that it took (seconds)."""
        cost = max(took, self._min_cost)
        if retry:
            self._running_retries -= 1
            self.retry_lead = min(self.retry_lead + cost, max(_MAX_LEAD, cost))
        else:
            self.retry_lead = max(0.0, self.retry_lead - cost)
