"""Keeps the deliveries of one destination that wait in memory, bounded by number and by bytes.

New deliveries and retries wait in two first-in, first-out queues. Retries of events that the destination
can't process may be many and slow. While new deliveries wait, retries get at most half of the slots and half
of the time, so new deliveries keep at least half of their speed. While only one kind waits, it may use all
the time. Retries never use more than half of the slots, so a new delivery always finds a free slot.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.delivery.destination import Destination
    from gatehouse.store.base import Delivery

#: The capacity for a slow destination, and for one without measurements yet.
MIN_CAPACITY = 1000
#: The capacity for a fast destination. Deliveries beyond it are read from the store, which costs 10 % more.
MAX_CAPACITY = 10_000
MAX_BYTES = 16 * 1024 * 1024
#: The capacity is what was taken recently in this many seconds. It is half of what a lease allows, so
#: deliveries keep their leases if the destination becomes slower.
_SECONDS_AHEAD = 5.0
#: Seconds between two measurements of how many deliveries were taken.
_MEASURE_EVERY = 0.1
#: With a rate limit, the capacity is what can start in this many seconds. Others would outlive their lease.
_RATE_SECONDS = 10.0


class Backlog:
    """The deliveries of one lane that no worker has taken yet.

    Any number of workers may wait in `wait_for_next`. Only one at a time may wait in `wait_startable` or
    `wait_for_batch`.
    """

    def __init__(self, destination: Destination) -> None:
        self._new: deque[Delivery] = deque()
        #: Deliveries that were attempted before.
        self._retries: deque[Delivery] = deque()
        min_cost = 1 / destination.rate if destination.rate else 0.0
        self._retry_share = RetryShare(destination.concurrency, min_cost=min_cost)
        #: Whether new deliveries come first regardless of shares, to find out if the destination fails them
        #: too.
        self.prefer_new = False
        #: The total size of the events' bodies.
        self._bytes = 0
        self._capacity = _capacity(destination.rate)
        #: While more deliveries wait, no more are leased, so that a waiting batch keeps its leases.
        self._enough_waiting = min(destination.lease_limit, self._capacity) // 2
        self._startable = asyncio.Event()
        self._batch_ready = asyncio.Event()
        #: Workers that each wait for one delivery.
        self._waiters: deque[asyncio.Future[None]] = deque()
        #: The number of deliveries and of bytes that a worker waits for.
        self._wanted: tuple[int, int] | None = None
        self._last_put = self._previous_put = 0.0
        #: Without a rate limit: how many deliveries were taken, and since when.
        self._is_adaptive = destination.rate is None
        self._taken = 0
        self._taken_since = time.monotonic()

    def __iter__(self) -> Iterator[Delivery]:
        yield from self._new
        yield from self._retries

    def __len__(self) -> int:
        return len(self._new) + len(self._retries)

    @property
    def room(self) -> int:
        """How many more deliveries may wait."""
        return 0 if self._bytes >= MAX_BYTES else max(0, self._capacity - len(self._new))

    @property
    def has_enough_new(self) -> bool:
        """Whether enough new deliveries wait, so that no more need to be leased."""
        return len(self._new) > self._enough_waiting

    @property
    def has_enough_retries(self) -> bool:
        """Whether enough retries wait, so that only new deliveries need to be leased."""
        return len(self._retries) > self._enough_waiting

    @property
    def has_startable(self) -> bool:
        """Whether a delivery waits that may start now."""
        return bool(self._new) or (bool(self._retries) and self._retry_share.may_retry)

    @property
    def next_is_new(self) -> bool:
        """Whether `take` would return a new delivery."""
        return bool(self._new) and (self.prefer_new or self._retry_share.prefers_new or not self._retries)

    def put(self, delivery: Delivery) -> None:
        """Add a delivery at the end of its queue."""
        (self._retries if delivery.attempts else self._new).append(delivery)
        self._bytes += len(delivery.event.body)
        self._previous_put, self._last_put = self._last_put, time.monotonic()
        if self._is_adaptive and self._last_put - self._taken_since >= _MEASURE_EVERY:
            self._measure(self._last_put)
        if not delivery.attempts or self._retry_share.may_retry:
            self._startable.set()
        self.wake_one()
        if self._wanted is not None and self._is_ready(*self._wanted):
            self._batch_ready.set()

    def _measure(self, now: float) -> None:
        ahead = self._taken / (now - self._taken_since) * _SECONDS_AHEAD
        self._capacity = min(MAX_CAPACITY, max(MIN_CAPACITY, int(ahead)))
        self._taken, self._taken_since = 0, now

    def peek(self, *, newest: bool = False) -> Delivery:
        """Return the delivery that `take` would return, without removing it."""
        return self._next()[-1 if newest else 0]

    def take(self, *, newest: bool = False) -> Delivery:
        """Take the oldest delivery of the queue whose turn it is, or the newest one if `newest`."""
        queue = self._next() if self._retries else self._new
        delivery = queue.pop() if newest else queue.popleft()
        self._bytes -= len(delivery.event.body)
        self._taken += 1
        if not self._new and not self.has_startable:
            self._startable.clear()
        return delivery

    def take_all(self) -> list[Delivery]:
        """Take all deliveries."""
        taken = [*self._new, *self._retries]
        self._new.clear()
        self._retries.clear()
        self._bytes = 0
        self._startable.clear()
        return taken

    def set_slots(self, slots: int) -> None:
        """Set how many attempts may run at a time."""
        self._retry_share.set_slots(slots)
        if self.has_startable:
            self._startable.set()

    def retry_started(self) -> None:
        """Count a POST of retries that starts."""
        self._retry_share.started()
        if not self.has_startable:
            self._startable.clear()

    def attempt_ended(self, started: float, *, retry: bool) -> None:
        """Count a POST that ended. `started` is when its worker began (monotonic seconds)."""
        if not retry and not self._retry_share.retry_lead:
            return  # the usual case: there are no retries
        self._retry_share.ended(time.monotonic() - started, retry=retry)
        if retry and self.has_startable:
            self._startable.set()

    def _next(self) -> deque[Delivery]:
        return self._new if self.next_is_new else self._retries

    async def wait_for_next(self) -> None:
        """Wait for a delivery that woke no other worker. Another worker may still take it first."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(woken)
        await woken

    def wake_one(self) -> None:
        """Let a waiting worker look for a delivery."""
        while self._waiters:
            idle = self._waiters.popleft()
            if not idle.done():  # the worker was not stopped meanwhile
                idle.set_result(None)
                return

    async def wait_startable(self) -> None:
        """Wait until a delivery may start."""
        await self._startable.wait()

    async def wait_for_batch(self, count: int, size: int, linger: float) -> None:
        """Wait for `count` new deliveries or `size` bytes, for at most `linger` seconds.

        Returns at once if the last two deliveries came further apart than `linger`: a delivery that comes
        alone should not wait for others.
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


#: Seconds: the largest lead of retries that ran alone, unless a single one took longer.
_MAX_LEAD: Final = 60.0


class RetryShare:
    """Divides slots and time between the new deliveries and the retries of one destination."""

    def __init__(self, slots: int, *, min_cost: float = 0.0) -> None:
        """`min_cost` is the least time that an attempt counts for, in seconds. A rate limit sets it."""
        self.set_slots(slots)
        self._min_cost = min_cost
        self._running_retries = 0
        #: Seconds that retries used recently beyond what new deliveries used.
        self.retry_lead = 0.0

    def set_slots(self, slots: int) -> None:
        """Set how many attempts may run at a time. Retries use at most half of them."""
        self._max_retries = max(1, slots // 2)

    @property
    def may_retry(self) -> bool:
        """Whether a slot is free for a retry."""
        return self._running_retries < self._max_retries

    @property
    def prefers_new(self) -> bool:
        """Whether a new delivery goes first when both kinds wait."""
        return self.retry_lead > 0 or not self.may_retry

    def started(self) -> None:
        """Count a retry that starts."""
        self._running_retries += 1

    def ended(self, took: float, *, retry: bool) -> None:
        """Count an attempt that ended, and its duration in seconds."""
        cost = max(took, self._min_cost)
        if retry:
            self._running_retries -= 1
            self.retry_lead = min(self.retry_lead + cost, max(_MAX_LEAD, cost))
        else:
            self.retry_lead = max(0.0, self.retry_lead - cost)
