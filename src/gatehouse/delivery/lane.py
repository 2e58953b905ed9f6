"""Delivers to one destination: keeps its deliveries in memory and runs the workers that attempt them.

A lane shares no limit with another lane, so a destination that hangs, fails or is slow delays only itself.
When a reload removes a destination, its lane is retired: waiting deliveries return to the store, and attempts
in progress finish.
"""

from __future__ import annotations

import asyncio
import time
from itertools import chain
from typing import TYPE_CHECKING

from gatehouse.delivery.attempts import Attempts, BatchAttempts
from gatehouse.delivery.backlog import Backlog
from gatehouse.delivery.concurrency_limit import AdaptiveLimit
from gatehouse.delivery.intake import Intake
from gatehouse.delivery.leasing import Leaser
from gatehouse.delivery.relaying import RelayAttempts
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.attempts import Claim
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Throttle
    from gatehouse.events.event import Event
    from gatehouse.store.base import Delivery, Store
    from gatehouse.telemetry.metrics import DestinationMetrics

#: Seconds to record results after the grace period of a stop.
_RECORD_SECONDS = 1.0


class Lane:
    """The lane of one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        store: Store,
        forwarder: Forwarder,
        recorder: Recorder,
        throttle: Throttle,
        metrics: DestinationMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.destination = destination
        #: How many attempts may run at a time.
        self.slots = destination.concurrency
        metrics.concurrency_limit.set(self.slots)
        self._metrics = metrics
        self._limit = AdaptiveLimit(time.monotonic()) if destination.is_adaptive else None
        self.throttle = throttle
        self._forwarder = forwarder
        self._leaser = Leaser(destination, store, self, clock=clock)
        self._attempts = (BatchAttempts if destination.batch else Attempts)(
            destination,
            forwarder=forwarder,
            recorder=recorder,
            throttle=self.throttle,
            leaser=self._leaser,
            clock=clock,
            on_change=self._breaker_changed,
            on_outcome=self._observe,
        )
        #: For attempts within a provider's request. A failed one leaves no delivery behind, so none waits
        #: here.
        self.relay = RelayAttempts(
            destination,
            forwarder=forwarder,
            recorder=recorder,
            throttle=self.throttle,
            on_change=self._breaker_changed,
            most=lambda: self.slots,
        )
        self._backlog = Backlog(destination)
        self._intake = Intake(
            destination, backlog=self._backlog, throttle=self.throttle, leaser=self._leaser, clock=clock
        )
        self._running = False
        self._leaser_task: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        #: Workers that hold deliveries, and these deliveries.
        self._busy: dict[asyncio.Task[None], Claim] = {}

    @property
    def waiting(self) -> int:
        """The number of deliveries that wait in memory."""
        return len(self._backlog)

    def received_times(self) -> list[float]:
        """Return when the events of the deliveries in memory were received (Unix seconds)."""
        attempted = (one for claim in self._busy.values() for one in claim.deliveries)
        return [one.event.received for one in chain(self._backlog, attempted)]

    def start(self, *, paused: bool = False) -> None:
        """Start to deliver. While a destination is not ready, its deliveries stay in the store."""
        if paused:
            self.throttle.pause()
        if self.destination.not_ready is not None:
            return
        self._running = True
        name = self.destination.name
        self._leaser_task = asyncio.create_task(self._leaser.run(), name=f"{name} leasing")

    def pause(self) -> None:
        """Start no attempts until `resume`. Attempts in progress finish; the backlog returns to the store."""
        self.throttle.pause()
        self._return_all()

    def resume(self) -> None:
        """Deliver again, including deliveries that an open circuit breaker held back."""
        self.throttle.resume()
        self.check_store()

    def probe(self) -> None:
        """Let the next probe of the open circuit breaker start now, with the next delivery that is found."""
        self.throttle.hasten_probe()
        self.check_store()

    async def attempt_test(self, event: Event) -> Outcome:
        """Attempt an event that is not stored, also while paused or while the circuit breaker is open.

        The breaker does not learn the outcome, but the rate limit counts the event.
        """
        self.throttle.count_started(1)
        return await self._forwarder.attempt_test(event)

    def check_store(self) -> None:
        """Check the store as soon as there is room, because it may hold a due delivery."""
        self._leaser.check_store()
        self._leaser.room_freed()

    def delivery_stored(self) -> None:
        """Check the store for a new delivery that is only there."""
        self._leaser.delivery_stored()

    def has_room(self) -> bool:
        """Return whether a new delivery should come leased through memory. Otherwise it stays in the store.

        New deliveries also stay in the store while due deliveries there wait for room. Otherwise new
        deliveries would take every free place, and retries would never run.
        """
        return (
            self.destination.accepts_from_memory
            and not self._leaser.is_blocked
            and self._free_slots() > 0
            and self.delay() == 0
            and not self.throttle.breaker_open
        )

    def take(self, delivery: Delivery) -> None:
        """Add a delivery that is leased to this process."""
        if self._leaser_task is None:
            return  # a reload made the destination not ready; the lease expires
        if self.throttle.paused:
            self._leaser.put_back(delivery)
        else:
            self._backlog.put(delivery)
            if len(self._workers) < self.slots:
                self._add_workers()

    def demand(self) -> int:
        """Return how many deliveries to lease: none while enough wait, one if it will be a probe."""
        if self.delay() > 0 or self._backlog.has_enough_new:
            return 0
        if self.throttle.breaker_open:
            return 0 if self._backlog else 1
        return self._free_slots()

    def delay(self) -> float:
        """Return the seconds until an attempt may start; infinite if that depends on another event."""
        return self.throttle.delay()

    @property
    def is_probing(self) -> bool:
        """Whether the next leased delivery will be a probe."""
        return self.throttle.breaker_open

    @property
    def suspects_poison(self) -> bool:
        """Whether recent failures may come from single events, so that other events should be leased too."""
        return self.throttle.suspects_poison

    @property
    def has_enough_retries(self) -> bool:
        """Whether enough retries wait in memory, so that only new deliveries are needed."""
        return self._backlog.has_enough_retries

    def _breaker_changed(self) -> None:
        """React to a change of the circuit breaker: it opened, closed, or set the time of another probe."""
        if self.throttle.breaker_open:
            self._return_all()
        self.check_store()

    def _free_slots(self) -> int:
        return self._backlog.room if self._running else 0

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - a coroutine runs in a task
        while self._running and len(self._workers) <= self.slots:
            claim = await self._intake.next()
            self._busy[worker] = claim
            started = time.monotonic()
            try:
                await self._attempts.run(claim, worker)
            except Exception as error:  # noqa: BLE001 - a lane keeps running; the lease of the delivery expires
                self._log_fault(claim, error)
            finally:
                del self._busy[worker]
                self._backlog.attempt_ended(started, retry=claim.deliveries[0].attempts > 0)
        self._workers.discard(worker)

    def _add_workers(self) -> None:
        """Start the workers that are missing. Few destinations ever need all of them."""
        while self._running and len(self._backlog) > len(self._workers) - len(self._busy):
            if len(self._workers) >= self.slots:
                return
            name = f"{self.destination.name} worker {len(self._workers)}"
            self._workers.add(asyncio.create_task(self._work(), name=name))

    def _observe(self, outcome: Outcome, probe: bool) -> bool:
        """Let the limit learn the outcome of a POST, whose worker is still busy.

        Returns whether all slots are in use.
        """
        is_full = len(self._busy) >= self.slots
        limit = self._limit
        if limit is not None and not probe and limit.observe(outcome, time.monotonic(), reached=is_full):
            self._use(limit.value)
        return is_full

    def _use(self, slots: int) -> None:
        """Use another limit."""
        if not self._running:
            return  # the metric belongs to the next lane of the destination
        self.slots = slots
        self._metrics.concurrency_limit.set(self.slots)
        self._backlog.set_slots(self.slots)
        self._add_workers()
        self._end_idle_workers(len(self._workers) - self.slots)

    def _end_idle_workers(self, number: int) -> None:
        """End workers that hold no delivery. Those that hold one end after its attempt."""
        if number <= 0:
            return
        for worker in list(self._workers - self._busy.keys())[:number]:
            worker.cancel()
            self._workers.discard(worker)
        # One of them may have been woken for a delivery.
        self._backlog.wake_one()

    def _return_all(self) -> None:
        for delivery in self._backlog.take_all():
            self._leaser.put_back(delivery)

    def _log_fault(self, claim: Claim, error: Exception) -> None:
        fault = type(error).__name__
        name, first = self.destination.name, claim.deliveries[0].event.id
        get_logger().error("delivery.failed", event_id=first, destination=name, error=fault)

    def close(self) -> None:
        """Start nothing new."""
        self._running = False
        self._leaser.stop()
        for worker in self._workers - self._busy.keys():
            worker.cancel()

    def set_successor(self, lane: Lane) -> None:
        """Let another lane check the store for what this lane returns and for its last retries."""
        self._leaser.set_successor(lane._leaser)

    async def retire(self) -> None:
        """Return the backlog to the store, and let the attempts in progress finish without a time limit."""
        self.close()
        if self._leaser_task is None:
            return
        # It may be leasing at this moment. Those deliveries are returned as well.
        await asyncio.wait({self._leaser_task})
        self._return_all()
        await self._leaser.release()
        self._leaser.check_store()
        await self.stop(self.destination.lease_duration)
        self._leaser.check_store()

    async def stop(self, grace: float) -> None:
        """Give attempts in progress `grace` seconds, and return unattempted deliveries to the store."""
        self.close()
        if self._leaser_task is None:
            return
        tasks = {self._leaser_task, *self._workers}
        await asyncio.wait(tasks, timeout=grace)
        for worker in tuple(self._attempts.in_flight):
            worker.cancel()
        await asyncio.wait(tasks, timeout=_RECORD_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._return_all()
        await self._leaser.release()


class RetiredLanes:
    """Lanes that a reload replaced or removed. They return their backlog and finish their attempts."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._lanes: dict[asyncio.Task[None], Lane] = {}
        self._on_end = on_end

    def __contains__(self, destination: str) -> bool:
        return any(lane.destination.name == destination for lane in self._lanes.values())

    def add(self, lane: Lane) -> None:
        """Retire a lane. It starts no new attempt from now on."""
        lane.close()
        lane.throttle.retire()
        task = asyncio.create_task(_retire(lane), name=f"{lane.destination.name} retires")
        self._lanes[task] = lane
        task.add_done_callback(self._end)

    def set_successor(self, successor: Lane) -> None:
        """Make this lane the successor of the retired lanes of the same destination."""
        for lane in self._lanes.values():
            if lane.destination.name == successor.destination.name:
                lane.set_successor(successor)

    async def stop(self, grace: float) -> None:
        """Give attempts in progress `grace` seconds, as in active lanes."""
        tasks = list(self._lanes)
        lanes = list(self._lanes.values())
        await asyncio.gather(*(lane.stop(grace) for lane in lanes), return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._lanes[task]
        self._on_end()


async def _retire(lane: Lane) -> None:
    try:
        await lane.retire()
    except Exception as error:  # noqa: BLE001 - the leases of its deliveries expire
        name = lane.destination.name
        get_logger().error("delivery.failed", destination=name, error=type(error).__name__)
