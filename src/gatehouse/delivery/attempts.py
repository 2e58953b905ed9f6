"""Attempts deliveries: one at a time, or several in one POST, and has the outcomes recorded.

When a batch fails because of one event, the batch is split in halves until the failing event is alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.delivery.forwarder import Part
from gatehouse.delivery.retry import is_refused, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder, Together
    from gatehouse.delivery.leasing import Supply
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Gate
    from gatehouse.errors import OutcomeReason
    from gatehouse.store.base import Delivery


class Load(NamedTuple):
    """What a worker took: leased for long enough, let through the gate, and all of it new or all retries."""

    deliveries: Sequence[Delivery]
    #: Whether it is to find out if the destination is back.
    probe: bool


class Attempts:
    """Attempts the deliveries of one destination, each in a POST of its own."""

    def __init__(
        self,
        destination: Destination,
        *,
        forwarder: Forwarder,
        recorder: Recorder,
        gate: Gate,
        supply: Supply,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._forwarder = forwarder
        self._recorder = recorder
        self._gate = gate
        self._supply = supply
        self._clock = clock
        #: Called when whether the destination is spared may have changed.
        self._on_change = on_change
        #: Workers that wait for the destination's answer. They may be cancelled; what they attempt counts.
        self.under_way: set[asyncio.Task[None]] = set()

    async def make(self, load: Load, worker: asyncio.Task[None]) -> None:
        """Attempt what was taken, and return when what came of it is in the store."""
        (delivery,) = load.deliveries
        started = time.monotonic()
        self.under_way.add(worker)
        try:
            outcome = await self._forwarder.attempt(delivery.event, delivery.attempts + 1)
        except asyncio.CancelledError:
            # The lane's `stop` ran out of grace. The destination may have got the event: that attempt counts.
            self.under_way.discard(worker)
            await self._recorder.interrupted(delivery, time.monotonic() - started)
            return
        self.under_way.discard(worker)
        self._observe(delivery, outcome, probe=load.probe)
        await self._settle(delivery, outcome)

    def _observe(self, delivery: Delivery, outcome: Outcome, *, probe: bool) -> None:
        if self._gate.observe(outcome, probe=probe, event=delivery.event.id):
            self._on_change()

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Have an outcome recorded."""
        self._look_for(await self._recorder.attempted(delivery, outcome))

    def _look_for(self, due: float | None) -> None:
        """Have the store looked into when an outcome made something due there."""
        if due is not None:
            self._supply.look_at(due)
        elif self._destination.ordered:
            # The next one with its key was held back for it, and may go now.
            self._supply.look()


#: The brackets around a batch, and the comma before each element but the first.
_BRACKETS, _COMMA = 2, 1
#: Failures that come fast, so a batch is halved at once. After others it is tried again in smaller company.
_MAY_BE_FOR_ONE: tuple[OutcomeReason, ...] = ("server_error", "disconnected", "invalid_reply")


class Group(NamedTuple):
    """What goes into one POST."""

    parts: tuple[Part, ...]
    #: Half of what was sent before: it counts against the rate once more.
    is_half: bool = False
    #: What that came to, unless it was refused.
    failed: Outcome | None = None

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries, each with the number of its attempts."""
        return [part.delivery for part in self.parts]


class BatchAttempts(Attempts):
    """Attempts the deliveries of one destination, several in a POST.

    A batch that is refused, or at which the destination fails, holds at least one event that it can't
    process, and nobody says which. It is sent again at once in halves, and each half that fails in halves
    again, until the bad one stands alone. How often is bounded. For refusals it is enough to find two: when a
    destination refuses everything, as an app that is being deployed does, what is left is tried again later.
    For failures it is enough to find each, but an open breaker ends it. What is left is tried again later, in
    smaller company.
    """

    async def make(self, load: Load, worker: asyncio.Task[None]) -> None:
        """Attempt what was taken, and return when what came of it is in the store."""
        groups = deque(await self._groups(load.deliveries))
        splits, refusals_left = 0, 2 * len(load.deliveries).bit_length()
        probe = load.probe
        while groups:
            group = groups.popleft()
            if group.failed is not None and self._gate.breaker_open:
                await self._postpone(group, group.failed)
                continue
            if not self._destination.outlasts(group.deliveries, self._clock()):
                self._put_back(group)
                continue
            came_to = await self._attempt(group, worker)
            if came_to is None:
                await self._interrupt([group, *groups])
                return
            self._observe(group.deliveries[0], came_to.whole, probe=probe)
            probe = False
            refused = self._is_refused(came_to.whole)
            if len(group.parts) == 1 or not (refused or self._failed_for_one(came_to.whole)):
                await self._settle_all(group, came_to)
            elif (
                refusals_left if refused else splits < len(load.deliveries)
            ) and not self._gate.breaker_open:
                splits, refusals_left = splits + 1, refusals_left - refused
                groups.extendleft(reversed(self._halves(group, came_to.whole)))
            else:
                await self._settle_all(group, came_to, alone=False)

    async def _groups(self, deliveries: Sequence[Delivery]) -> list[Group]:
        """Write the events, and share them out so that no POST is too long."""
        parts: list[Part] = []
        for delivery in deliveries:
            part = self._forwarder.part(delivery)
            if isinstance(part, Part):
                parts.append(part)
            else:
                await self._settle(delivery, part)
        assert self._destination.batch is not None  # noqa: S101 - without it there are no batches
        return [Group(tuple(some)) for some in _within(parts, self._destination.batch.bytes)]

    async def _attempt(self, group: Group, worker: asyncio.Task[None]) -> Together | None:
        """POST a group when the rate allows it; None when the lane's `stop` ran out of grace."""
        self.under_way.add(worker)
        try:
            if group.is_half:
                await self._gate.turn()
                self._gate.count(len(group.parts))
            return await self._forwarder.attempt_together(group.parts)
        except asyncio.CancelledError:
            return None
        finally:
            self.under_way.discard(worker)

    def _is_refused(self, whole: Outcome) -> bool:
        return is_refused(whole, listed(self._destination.retry_on, whole.http_status))

    def _failed_for_one(self, whole: Outcome) -> bool:
        """Tell whether one event may be why a POST failed. A hint for all of them, as `retry_on`, is not."""
        return whole.reason in _MAY_BE_FOR_ONE and not listed(self._destination.retry_on, whole.http_status)

    def _halves(self, group: Group, whole: Outcome) -> list[Group]:
        for delivery in group.deliveries:
            self._recorder.again(delivery, whole)
        parts = [Part(_once_more(part.delivery), part.element) for part in group.parts]
        middle = len(parts) // 2
        failed = None if self._is_refused(whole) else whole
        return [Group(tuple(some), True, failed) for some in (parts[:middle], parts[middle:])]

    async def _postpone(self, group: Group, outcome: Outcome) -> None:
        """Have a group recorded that failed as part of a larger one, and is not attempted by itself now."""
        for due in await self._recorder.postponed(group.deliveries, outcome):
            self._look_for(due)

    def _put_back(self, group: Group) -> None:
        for delivery in group.deliveries:
            self._supply.put_back(delivery)

    async def _interrupt(self, groups: Iterable[Group]) -> None:
        interrupted = self._recorder.interrupted
        await asyncio.gather(*[interrupted(one, 0.0) for group in groups for one in group.deliveries])

    async def _settle_all(self, group: Group, came_to: Together, *, alone: bool = True) -> None:
        outcomes = came_to.items or [came_to.whole] * len(group.parts)
        for due in await self._recorder.attempted_together(group.deliveries, outcomes, alone=alone):
            self._look_for(due)


def _once_more(delivery: Delivery) -> Delivery:
    return msgspec.structs.replace(delivery, attempts=delivery.attempts + 1)


def _within(parts: Iterable[Part], size: int) -> Iterator[list[Part]]:
    """Cut into runs of which each is a body of at most `size` bytes, or a single event."""
    run: list[Part] = []
    length = _BRACKETS
    for part in parts:
        if run and length + _COMMA + len(part.element) > size:
            yield run
            run, length = [], _BRACKETS
        length += len(part.element) + (_COMMA if run else 0)
        run.append(part)
    if run:
        yield run
