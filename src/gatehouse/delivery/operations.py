"""Runs operations: takes them from the store, paces their steps, and tells the lanes what became due.

One gateway runs an operation at a time, for as long as it renews its lease. An operation waits while one of
its destinations can't deliver, or has many deliveries to catch up with: replayed deliveries must not delay
new ones.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from gatehouse.delivery.pacing import CatchingUp, Pacer
from gatehouse.errors import StoreError
from gatehouse.store.operations import Step
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.store.base import Store
    from gatehouse.store.operations import Candidate, Kind, Operation, StepResult
    from gatehouse.telemetry.metrics import Metrics

#: How long a lease lasts (seconds). Another gateway takes over at most `LEASE` + `_POLL_EVERY` after a crash.
LEASE: Final = 15.0
#: Seconds between two looks for operations that other gateways left, and where there are no others.
_POLL_EVERY: Final = 5.0
_POLL_ALONE: Final = 60.0
#: Seconds between two looks while an operation waits for a destination.
_CHECK_EVERY: Final = 0.1
#: Seconds after a store error, and between two writes of a position without events.
_PAUSE: Final = 1.0
#: How many events are found at a time.
_FOUND_AT_ONCE: Final = 500
#: How long operations are kept after their end (seconds), and how often old ones are removed.
KEPT: Final = 90 * 86400.0
_FORGET_EVERY: Final = 3600.0


class Lanes(Protocol):
    """What the operations need from the dispatcher."""

    def configured(self) -> frozenset[str]:
        """Return the names of the destinations in the config."""

    def backlog(self, name: str) -> int | None:
        """Return the number of pending deliveries; None while the destination can't deliver."""

    def wake(self, name: str, *, pending: int = 0, dead: int = 0, recount: bool = True) -> None:
        """Check the store for due deliveries. `pending` and `dead` are the changes to the two gauges."""


class Operations:
    """Runs all operations that this gateway can take."""

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        metrics: Metrics,
        clock: Callable[[], float],
        *,
        lease: float = LEASE,
        poll_every: float | None = None,
    ) -> None:
        """`clock` returns steady Unix time."""
        self._store = store
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._lease = lease
        self._poll_every = poll_every or (_POLL_EVERY if store.shared else _POLL_ALONE)
        self._owner = secrets.token_hex(8)
        self._runs: dict[str, _Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakeup = asyncio.Event()
        self._taking: asyncio.Task[None] | None = None
        #: Not at the start, when there is more urgent work.
        self._forget_at = clock() + _POLL_ALONE

    def start(self) -> None:
        """Take operations from now on."""
        self._taking = asyncio.create_task(self._take_all(), name="operations")

    async def stop(self) -> None:
        """Stop between two steps, and let others take the operations."""
        tasks = [task for task in (self._taking, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with suppress(StoreError):
            await self._store.release_operations(self._owner)

    def check_soon(self) -> None:
        """Look for operations now, because one was added or cancelled."""
        self._wakeup.set()
        for run in self._runs.values():
            run.check_soon()

    def waiting_for(self, operation_id: str) -> list[str]:
        """Return the destinations that an operation waits for, if this gateway runs it."""
        run = self._runs.get(operation_id)
        return [] if run is None else sorted(run.waiting_for)

    async def _take_all(self) -> None:
        while True:
            self._wakeup.clear()
            pause = min(self._poll_every, _POLL_EVERY)
            try:
                await self._take()
                pause = self._poll_every
            except StoreError as error:
                get_logger().warning("store.unavailable", error=str(error), during="operations")
            except Exception as error:  # noqa: BLE001 - the gateway keeps running, and looks again
                get_logger().error("operation.failed", operation=None, error=type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()

    async def _take(self) -> None:
        now = self._clock()
        for operation in await self._store.take_operations(self._owner, now=now, until=now + self._lease):
            if operation.id not in self._tasks:
                self._start(operation)
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY
            await self._store.forget_operations(before=now - KEPT)

    def _start(self, operation: Operation) -> None:
        run = _Run(operation, self._owner, self._store, self._lanes, self._clock, self._lease)
        run.on_step = self._count
        self._runs[operation.id] = run
        task = asyncio.create_task(self._run(run), name=f"operation {operation.id}")
        self._tasks[operation.id] = task

    async def _run(self, run: _Run) -> None:
        operation_id = run.operation.id
        get_logger().info("operation.running", operation=operation_id, kind=run.operation.kind)
        try:
            await run.run()
        except Exception as error:  # noqa: BLE001 - the gateway keeps running, and takes the operation again
            get_logger().error("operation.failed", operation=operation_id, error=type(error).__name__)
        finally:
            del self._runs[operation_id], self._tasks[operation_id]
        get_logger().info("operation.ended", operation=operation_id, finished=run.is_finished)

    def _count(self, kind: Kind, result: StepResult) -> None:
        self._metrics.replayed_events[kind, "done"].inc(result.done)
        self._metrics.replayed_events[kind, "failed"].inc(result.failed)


class _Run:
    """One operation, for as long as this gateway has its lease."""

    def __init__(
        self,
        operation: Operation,
        owner: str,
        store: Store,
        lanes: Lanes,
        clock: Callable[[], float],
        lease: float,
    ) -> None:
        self.operation = operation
        self.is_finished = False
        #: Destinations that can't deliver now, or have too many deliveries to catch up with.
        self.waiting_for: set[str] = set()
        self.on_step: Callable[[Kind, StepResult], None] = lambda _kind, _result: None
        self._owner = owner
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._lease = lease
        self._pacer = Pacer(operation.rate, time.monotonic())
        self._found: deque[Candidate] = deque()
        #: The position after everything that was found, and whether nothing comes after it.
        self._position = operation.position
        self._is_scanned = False
        self._written_at = time.monotonic()
        self._kept_until = 0.0
        self._recount_at = 0.0
        self._wakeup = asyncio.Event()
        #: Each destination that gets events.
        self._destinations: dict[str, CatchingUp] = {}
        #: How many events the next step may have, because of the destinations.
        self._room = self._pacer.step_size
        for name in operation.to or ():
            self._catching_up(name)

    def check_soon(self) -> None:
        """Check now whether the operation still runs."""
        self._kept_until = 0.0
        self._wakeup.set()

    async def run(self) -> None:
        """Run steps until the operation is done, was cancelled, or was taken by another gateway."""
        self._kept_until = time.monotonic() + self._lease
        while not self.is_finished:
            try:
                if not await self._go_on():
                    return
            except StoreError as error:
                get_logger().warning("store.unavailable", error=str(error), during="operations")
                await asyncio.sleep(_PAUSE)

    async def _go_on(self) -> bool:
        """Find events, wait for the next step, and run it. Returns False if the lease is lost."""
        if not self._found and not self._is_scanned:
            await self._find()
        if self._found:
            if not await self._wait():
                return False
        elif not self._is_scanned and time.monotonic() - self._written_at < _PAUSE:
            return True  # nothing to write yet
        return await self._step()

    async def _find(self) -> None:
        found = await self._store.candidates(
            self.operation, self._position, self._lanes.configured(), limit=_FOUND_AT_ONCE
        )
        self._found.extend(found.events)
        self._position, self._is_scanned = found.position, found.done

    async def _wait(self) -> bool:
        """Wait until the next step may start. Returns False if the lease is lost meanwhile."""
        while True:
            self._wakeup.clear()
            self.waiting_for = self._blocked()
            delay = _CHECK_EVERY if self.waiting_for else self._pacer.delay(time.monotonic())
            left = self._kept_until - time.monotonic()
            if left < self._lease * 2 / 3 and (delay > 0 or left <= 0):
                if not await self._keep():
                    return False
                continue
            if not delay:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(min(delay, self._lease / 3)):
                    await self._wakeup.wait()

    async def _keep(self) -> bool:
        until = self._clock() + self._lease
        started = time.monotonic()
        kept = await self._store.keep_operation(self.operation.id, self._owner, until=until)
        self._kept_until = started + self._lease
        return kept

    def _blocked(self) -> set[str]:
        """Return the destinations that can't take another event, and note the room at the others."""
        blocked = set()
        now = time.monotonic()
        self._room = self._pacer.step_size
        for name in self._destinations.keys() & self._lanes.configured():
            pending = self._lanes.backlog(name)
            room = 0 if pending is None else self._destinations[name].room(pending, now)
            self._room = min(self._room, room)
            if not room:
                blocked.add(name)
                self._recount(name, now)
        return blocked

    def _recount(self, name: str, now: float) -> None:
        """Count the deliveries again, because other gateways may have delivered some."""
        if now >= self._recount_at:
            self._recount_at = now + _PAUSE
            self._lanes.wake(name)

    def _catching_up(self, name: str) -> CatchingUp:
        if name not in self._destinations:
            pending = self._lanes.backlog(name) or 0
            self._destinations[name] = CatchingUp(pending, time.monotonic())
        return self._destinations[name]

    async def _step(self) -> bool:
        events = [self._found.popleft() for _ in range(min(self._room, len(self._found)))]
        self._pacer.took(time.monotonic(), len(events))
        now, started = self._clock(), time.monotonic()
        position = events[-1].position if self._found else self._position
        step = Step(
            event_ids=tuple(each.event_id for each in events),
            position=position,
            is_last=self._is_scanned and not self._found,
            now=now,
            until=now + self._lease,
            configured=self._lanes.configured(),
        )
        try:
            result = await self._store.step(self.operation, self._owner, step)
        except StoreError:
            # Nobody may know whether it was committed. The position in the store tells.
            await self._resume()
            raise
        if result is None:
            return False
        self._written_at, self._kept_until = started, started + self._lease
        self.is_finished = step.is_last
        for name, due in result.destinations.items():
            self._catching_up(name).added(due.pending)
            self._lanes.wake(name, pending=due.pending, dead=-due.dead, recount=False)
        self.on_step(self.operation.kind, result)
        return True

    async def _resume(self) -> None:
        """Continue where the store says the operation is."""
        self._found.clear()
        self._is_scanned = False
        self._position = ""
        while True:
            await asyncio.sleep(_PAUSE)
            with suppress(StoreError):
                stored = await self._store.operation(self.operation.id)
                if stored is not None:
                    self._position = stored.position
                return
