"""One destination: what waits for it in memory, and the workers that attempt it.

A lane shares no bound with another, so a destination that hangs, fails or is slow delays only itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gatehouse.delivery.breaker import Breaker
from gatehouse.delivery.pace import Pace
from gatehouse.delivery.supply import BATCH, Supply
from gatehouse.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder
    from gatehouse.delivery.outcome import Outcome, OutcomeReason
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.metrics import DestinationMetrics
    from gatehouse.store.base import Delivery, Store

MAX_WAITING = 1000
MAX_WAITING_BYTES = 16 * 1024 * 1024
#: With a rate, no more waits in memory than can start in this many seconds: the rest would outwait its lease.
_SECONDS_WAITING = 10.0
#: The rate is no reason to leave a delivery in the store when it may start within this time (seconds).
_SOON = 1.0
#: After the grace of a stop: how long results may still take to be recorded.
_RECORDING = 1.0


class Lane:
    """Delivers to one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        store: Store,
        forwarder: Forwarder,
        recorder: Recorder,
        metrics: DestinationMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.destination = destination
        self._forwarder = forwarder
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._breaker = Breaker(destination.breaker)
        self._last_failure: OutcomeReason = "connect"
        self._pace = Pace(destination.rate) if destination.rate else None
        self._turn = asyncio.Lock()
        self._supply = Supply(destination, store, self, clock=clock)
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._waiting_bytes = 0
        self._capacity = _capacity(destination)
        #: While more wait, no more are fetched: a batch shall not outwait its lease.
        self._enough = min(BATCH, self._capacity) // 2
        self._running = False
        self._supplier: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        #: Workers that hold a delivery, and those of them that wait for the destination's answer.
        self._busy: set[asyncio.Task[None]] = set()
        self._attempting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start to deliver; a destination that is not ready keeps its deliveries in the store."""
        if self.destination.not_ready is not None:
            return
        self._running = True
        name = self.destination.name
        self._supplier = asyncio.create_task(self._supply.run(), name=f"{name} supply")
        for number in range(self.destination.concurrency):
            self._workers.add(asyncio.create_task(self._work(), name=f"{name} worker {number}"))

    def has_room(self) -> bool:
        """Tell whether a new delivery should come by memory, leased. If not, it is left in the store."""
        return (
            self.destination.takes_hot
            and self._room() > 0
            and self.delay() == 0
            and not self._breaker.is_open
        )

    def take(self, delivery: Delivery) -> None:
        """Queue a delivery that is leased to this process."""
        self._waiting.put_nowait(delivery)
        self._waiting_bytes += len(delivery.event.body)

    def overflowed(self) -> None:
        """Learn of a new delivery that is in the store only."""
        self._supply.look()

    def appetite(self) -> int:
        """Return how many deliveries to fetch: none while enough wait, one when it is to be a probe."""
        waiting = self._waiting.qsize()
        if self.delay() > 0 or waiting > self._enough:
            return 0
        if self._breaker.is_open:
            return 0 if waiting else 1
        return self._room()

    def delay(self) -> float:
        """Return how long until the breaker and the rate let an attempt start."""
        now = time.monotonic()
        delay = self._breaker.delay(now)
        if self._pace is not None:
            delay = max(delay, self._pace.delay(now) - _SOON)
        return delay

    async def expire(self, delivery: Delivery) -> bool:
        """Give up on a delivery whose time passed while the destination is let be. False: it is kept."""
        deadline = delivery.event.received + self.destination.retry.give_up_after
        if not self._breaker.is_open or self._clock() < deadline:
            return False
        await self._recorder.expired(delivery, self._last_failure)
        return True

    def _room(self) -> int:
        if not self._running or self._waiting_bytes >= MAX_WAITING_BYTES:
            return 0
        return self._capacity - self._waiting.qsize()

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - a coroutine runs in a task
        while self._running:
            delivery = await self._next()
            self._busy.add(worker)
            try:
                await self._deliver(delivery, worker)
            except Exception as error:  # noqa: BLE001 - a lane never dies; the delivery comes back by itself
                self._log_fault(delivery, error)
            finally:
                self._busy.discard(worker)

    async def _next(self) -> Delivery:
        """Wait for a delivery that may be attempted at this moment."""
        if self._pace is None:
            return await self._admitted()
        # One at a time waits for a token, before it has a delivery: a lease does not run out over the rate.
        async with self._turn:
            while (delay := self._pace.delay(time.monotonic())) > 0:  # noqa: ASYNC110 - time is the event
                await asyncio.sleep(delay)
            delivery = await self._admitted()
            self._pace.take(time.monotonic())
            return delivery

    async def _admitted(self) -> Delivery:
        while True:
            delivery = await self._waiting.get()
            self._waiting_bytes -= len(delivery.event.body)
            if self._waiting.qsize() <= self._enough:
                self._supply.has_room_again()
            outlives = delivery.leased_until - self._clock() >= self.destination.shortest_lease
            if outlives and self._breaker.admit(time.monotonic()):
                return delivery
            self._supply.put_back(delivery)

    async def _deliver(self, delivery: Delivery, worker: asyncio.Task[None]) -> None:
        probe = self._breaker.is_open
        started = time.monotonic()
        self._attempting.add(worker)
        try:
            outcome = await self._forwarder.attempt(delivery.event, delivery.attempts + 1)
        except asyncio.CancelledError:
            # `stop` ran out of grace. The destination may have got the event: that attempt counts.
            self._attempting.discard(worker)
            await self._recorder.interrupted(delivery, time.monotonic() - started)
            return
        self._attempting.discard(worker)
        self._observe(outcome, probe=probe)
        due = await self._recorder.attempted(delivery, outcome)
        if due is not None:
            self._supply.look_at(due)

    def _observe(self, outcome: Outcome, *, probe: bool) -> None:
        was_open = self._breaker.is_open
        if outcome.reason != "ok":
            self._last_failure = outcome.reason
        self._breaker.observe(outcome.reason, time.monotonic(), probe=probe)
        if was_open or self._breaker.is_open:
            self._metrics.breaker_open.set(self._breaker.is_open)
            self._supply.look()
            self._supply.has_room_again()

    def _log_fault(self, delivery: Delivery, error: Exception) -> None:
        fault = type(error).__name__
        name = self.destination.name
        get_logger().error("delivery.failed", event_id=delivery.event.id, destination=name, error=fault)

    def close(self) -> None:
        """Start nothing new."""
        self._running = False
        self._supply.stop()

    async def stop(self, grace: float) -> None:
        """Finish the attempts under way within `grace` seconds, and give back what was not attempted."""
        self.close()
        if self._supplier is None:
            return
        for worker in self._workers - self._busy:
            worker.cancel()
        tasks = {self._supplier, *self._workers}
        await asyncio.wait(tasks, timeout=grace)
        for worker in tuple(self._attempting):
            worker.cancel()
        await asyncio.wait(tasks, timeout=_RECORDING)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        while not self._waiting.empty():
            self._supply.put_back(self._waiting.get_nowait())
        await self._supply.release()


def _capacity(destination: Destination) -> int:
    if destination.rate is None:
        return MAX_WAITING
    return min(MAX_WAITING, max(1, int(destination.rate * _SECONDS_WAITING)))
