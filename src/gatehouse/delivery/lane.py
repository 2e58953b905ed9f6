"""One destination: its deliveries in memory, and the workers that attempt them.

A lane shares no limit with another lane, so a destination that hangs, fails or is slow delays only itself.
A reload that removes a destination retires its lane: waiting deliveries return to the store, attempts
finish.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gatehouse.delivery.attempts import Attempts, BatchAttempts
from gatehouse.delivery.backlog import Waiting
from gatehouse.delivery.intake import Intake
from gatehouse.delivery.leasing import Supply
from gatehouse.delivery.relaying import Asking
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.attempts import Load
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Gate
    from gatehouse.store.base import Delivery, Store

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
        gate: Gate,
        clock: Callable[[], float],
    ) -> None:
        self.destination = destination
        self.gate = gate
        self._supply = Supply(destination, store, self, clock=clock)
        self._attempts = (BatchAttempts if destination.batch else Attempts)(
            destination,
            forwarder=forwarder,
            recorder=recorder,
            gate=self.gate,
            supply=self._supply,
            clock=clock,
            on_change=self._changed,
        )
        #: For attempts within a request. What fails in one is no delivery, so nothing of it waits here.
        self.asking = Asking(
            destination, forwarder=forwarder, recorder=recorder, gate=self.gate, on_change=self._changed
        )
        self._waiting = Waiting(destination)
        self._intake = Intake(
            destination, waiting=self._waiting, gate=self.gate, supply=self._supply, clock=clock
        )
        self._running = False
        self._supplier: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        #: Workers that hold a delivery.
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many deliveries wait in memory."""
        return len(self._waiting)

    def start(self, *, paused: bool = False) -> None:
        """Start to deliver; a destination that is not ready keeps its deliveries in the store."""
        if paused:
            self.gate.pause()
        if self.destination.not_ready is not None:
            return
        self._running = True
        name = self.destination.name
        self._supplier = asyncio.create_task(self._supply.run(), name=f"{name} supply")
        for number in range(self.destination.concurrency):
            self._workers.add(asyncio.create_task(self._work(), name=f"{name} worker {number}"))

    def pause(self) -> None:
        """Start no attempt until `resume`. Those under way finish, what waits goes back to the store."""
        self.gate.pause()
        self._put_all_back()

    def resume(self) -> None:
        """Deliver again, also what an open breaker held back."""
        self.gate.resume()
        self.look()

    def look(self) -> None:
        """Look into the store as soon as there is room: there is a delivery in it, or may be."""
        self._supply.look()
        self._supply.has_room_again()

    def overflowed(self) -> None:
        """Learn of a new delivery that is in the store only."""
        self._supply.overflowed()

    def has_room(self) -> bool:
        """Tell whether a new delivery should come by memory, leased. If not, it is left in the store.

        While something there is due that finds no room here, it goes behind that: arrivals that took each
        place as it became free would keep retries waiting for as long as they come.
        """
        return (
            self.destination.takes_hot
            and not self._supply.held_up
            and self._room() > 0
            and self.delay() == 0
            and not self.gate.breaker_open
        )

    def take(self, delivery: Delivery) -> None:
        """Queue a delivery that is leased to this process."""
        if self._supplier is None:
            return  # not ready, since a reload that came in between: its lease ends by itself
        if self.gate.paused:
            self._supply.put_back(delivery)
        else:
            self._waiting.put(delivery)

    def appetite(self) -> int:
        """Return how many deliveries to fetch: none while enough wait, one when it is to be a probe."""
        if self.delay() > 0 or self._waiting.plenty:
            return 0
        if self.gate.breaker_open:
            return 0 if self._waiting else 1
        return self._room()

    def delay(self) -> float:
        """Return how long until an attempt may start; infinite when something else has to happen first."""
        return self.gate.delay()

    @property
    def is_probing(self) -> bool:
        """Whether what is fetched is to be a probe."""
        return self.gate.breaker_open

    @property
    def is_suspicious(self) -> bool:
        """Whether the failures seen may be those of single events, so that others should be fetched too."""
        return self.gate.is_suspicious

    @property
    def has_retries(self) -> bool:
        """Whether so many deliveries that were attempted before wait that only new ones are wanted."""
        return self._waiting.plenty_of_retries

    def _changed(self) -> None:
        """Learn that the breaker may have opened or closed, or is to wait for another probe."""
        if self.gate.breaker_open:
            self._put_all_back()
        self.look()

    def _room(self) -> int:
        return self._waiting.room if self._running else 0

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - a coroutine runs in a task
        while self._running:
            load = await self._intake.next()
            self._busy.add(worker)
            started = time.monotonic()
            try:
                await self._attempts.make(load, worker)
            except Exception as error:  # noqa: BLE001 - a lane never dies; the delivery comes back by itself
                self._log_fault(load, error)
            finally:
                self._busy.discard(worker)
                self._waiting.ended(time.monotonic() - started, retry=load.deliveries[0].attempts > 0)

    def _put_all_back(self) -> None:
        for delivery in self._waiting.take_all():
            self._supply.put_back(delivery)

    def _log_fault(self, load: Load, error: Exception) -> None:
        fault = type(error).__name__
        name, first = self.destination.name, load.deliveries[0].event.id
        get_logger().error("delivery.failed", event_id=first, destination=name, error=fault)

    def close(self) -> None:
        """Start nothing new."""
        self._running = False
        self._supply.stop()
        for worker in self._workers - self._busy:
            worker.cancel()

    def succeeded_by(self, lane: Lane) -> None:
        """Let another lane look for what this one gives back, and for what its last attempts make due."""
        self._supply.pass_on_to(lane._supply)

    async def retire(self) -> None:
        """Give back what waits, then let the attempts under way end in their own time."""
        self.close()
        if self._supplier is None:
            return
        # It may be leasing just now: what it gets goes back as well.
        await asyncio.wait({self._supplier})
        self._put_all_back()
        await self._supply.release()
        self._supply.look()
        await self.stop(self.destination.lease)
        self._supply.look()

    async def stop(self, grace: float) -> None:
        """Finish the attempts under way within `grace` seconds, and give back what was not attempted."""
        self.close()
        if self._supplier is None:
            return
        tasks = {self._supplier, *self._workers}
        await asyncio.wait(tasks, timeout=grace)
        for worker in tuple(self._attempts.under_way):
            worker.cancel()
        await asyncio.wait(tasks, timeout=_RECORDING)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._put_all_back()
        await self._supply.release()


class Retiring:
    """Sees lanes off: what waits in them goes back to the store, what they attempt ends in its own time."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._lanes: dict[asyncio.Task[None], Lane] = {}
        self._on_end = on_end

    def __contains__(self, destination: str) -> bool:
        return any(lane.destination.name == destination for lane in self._lanes.values())

    def add(self, lane: Lane) -> None:
        """Take a lane out of service, at once as far as new attempts are concerned."""
        lane.close()
        lane.gate.retire()
        task = asyncio.create_task(_retire(lane), name=f"{lane.destination.name} retires")
        self._lanes[task] = lane
        task.add_done_callback(self._end)

    def hand_over_to(self, successor: Lane) -> None:
        """Tell the lanes of the same destination who takes up what they give back."""
        for lane in self._lanes.values():
            if lane.destination.name == successor.destination.name:
                lane.succeeded_by(successor)

    async def stop(self, grace: float) -> None:
        """Let attempts under way finish for `grace` seconds, as the lanes in service do."""
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
    except Exception as error:  # noqa: BLE001 - the leases of what it held end by themselves
        name = lane.destination.name
        get_logger().error("delivery.failed", destination=name, error=type(error).__name__)
