"""Attempts deliveries: one at a time, or several in one POST, and has the outcomes recorded.

When a batch fails because of one event, the batch is split in halves until the failing event is alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gatehouse.delivery.forwarder import BatchItem
from gatehouse.delivery.retry import is_refused, retry_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import BatchOutcome, Forwarder
    from gatehouse.delivery.leasing import Leaser
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Throttle
    from gatehouse.errors import OutcomeReason
    from gatehouse.store.base import Delivery


class Claim(NamedTuple):
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
        throttle: Throttle,
        leaser: Leaser,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._forwarder = forwarder
        self._recorder = recorder
        self._throttle = throttle
        self._leaser = leaser
        self._clock = clock
        #: Called when whether the destination is spared may have changed.
        self._on_change = on_change
        #: Workers that wait for the destination's answer. They may be cancelled; what they attempt counts.
        self.in_flight: set[asyncio.Task[None]] = set()

    async def run(self, claim: Claim, worker: asyncio.Task[None]) -> None:
        """Attempt what was taken, and return when what came of it is in the store."""
        (delivery,) = claim.deliveries
        started = time.monotonic()
        self.in_flight.add(worker)
        try:
            outcome = await self._forwarder.attempt(delivery.event, delivery.attempts + 1)
        except asyncio.CancelledError:
            # The lane's `stop` ran out of grace. The destination may have got the event: that attempt counts.
            self.in_flight.discard(worker)
            await self._recorder.record_interrupted(delivery, time.monotonic() - started)
            return
        self.in_flight.discard(worker)
        self._observe(delivery, outcome, probe=claim.probe)
        await self._record(delivery, outcome)

    def _observe(self, delivery: Delivery, outcome: Outcome, *, probe: bool) -> None:
        if self._throttle.observe(outcome, probe=probe, event=delivery.event.id):
            self._on_change()

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Have an outcome recorded."""
        self._check_store_for(await self._recorder.record(delivery, outcome))

    def _check_store_for(self, due: float | None) -> None:
        """Have the store looked into when an outcome made something due there."""
        if due is not None:
            self._leaser.check_store_at(due)
        elif self._destination.ordered:
            # The next one with its key was held back for it, and may go now.
            self._leaser.check_store()


#: The brackets around a batch, and the comma before each element but the first.
_BRACKETS, _COMMA = 2, 1
#: Failures that come fast, so a batch is halved at once. After others it is tried again in smaller company.
_MAY_BE_FOR_ONE: tuple[OutcomeReason, ...] = ("server_error", "disconnected", "invalid_reply")


class Group(NamedTuple):
    """What goes into one POST."""

    parts: tuple[BatchItem, ...]
    #: Half of what was sent before: it counts against the rate once more.
    is_half: bool = False
    #: What that came to, unless it was refused.
    failure: Outcome | None = None

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

    async def run(self, claim: Claim, worker: asyncio.Task[None]) -> None:
        """Attempt what was taken, and return when what came of it is in the store."""
        groups = deque(await self._groups(claim.deliveries))
        splits, refusals_left = 0, 2 * len(claim.deliveries).bit_length()
        probe = claim.probe
        while groups:
            group = groups.popleft()
            if group.failure is not None and self._throttle.breaker_open:
                await self._postpone(group, group.failure)
                continue
            if not self._destination.leases_cover_attempt(group.deliveries, self._clock()):
                self._put_back(group)
                continue
            result = await self._attempt(group, worker)
            if result is None:
                await self._interrupt([group, *groups])
                return
            self._observe(group.deliveries[0], result.whole, probe=probe)
            probe = False
            refused = self._is_refused(result.whole)
            if len(group.parts) == 1 or not (refused or self._may_be_one_event(result.whole)):
                await self._record_group(group, result)
            elif (
                refusals_left if refused else splits < len(claim.deliveries)
            ) and not self._throttle.breaker_open:
                splits, refusals_left = splits + 1, refusals_left - refused
                groups.extendleft(reversed(self._split(group, result.whole)))
            else:
                await self._record_group(group, result, conclusive=False)

    async def _groups(self, deliveries: Sequence[Delivery]) -> list[Group]:
        """Write the events, and share them out so that no POST is too long."""
        parts: list[BatchItem] = []
        for delivery in deliveries:
            part = self._forwarder.encode_item(delivery)
            if isinstance(part, BatchItem):
                parts.append(part)
            else:
                await self._record(delivery, part)
        assert self._destination.batch is not None  # noqa: S101 - without it there are no batches
        return [Group(tuple(some)) for some in _cut(parts, self._destination.batch.bytes)]

    async def _attempt(self, group: Group, worker: asyncio.Task[None]) -> BatchOutcome | None:
        """POST a group when the rate allows it; None when the lane's `stop` ran out of grace."""
        self.in_flight.add(worker)
        try:
            if group.is_half:
                await self._throttle.wait_for_rate()
                self._throttle.count_started(len(group.parts))
            return await self._forwarder.attempt_batch(group.parts)
        except asyncio.CancelledError:
            return None
        finally:
            self.in_flight.discard(worker)

    def _is_refused(self, whole: Outcome) -> bool:
        return is_refused(whole, retry_rule(self._destination.retry_on, whole.http_status))

    def _may_be_one_event(self, whole: Outcome) -> bool:
        """Tell whether one event may be why a POST failed. A hint for all of them, as `retry_on`, is not."""
        return whole.reason in _MAY_BE_FOR_ONE and not retry_rule(
            self._destination.retry_on, whole.http_status
        )

    def _split(self, group: Group, whole: Outcome) -> list[Group]:
        for delivery in group.deliveries:
            self._recorder.count_resent(delivery, whole)
        parts = [BatchItem(_with_one_more_attempt(part.delivery), part.element) for part in group.parts]
        middle = len(parts) // 2
        failure = None if self._is_refused(whole) else whole
        return [Group(tuple(some), True, failure) for some in (parts[:middle], parts[middle:])]

    async def _postpone(self, group: Group, outcome: Outcome) -> None:
        """Have a group recorded that failed as part of a larger one, and is not attempted by itself now."""
        for due in await self._recorder.record_postponed(group.deliveries, outcome):
            self._check_store_for(due)

    def _put_back(self, group: Group) -> None:
        for delivery in group.deliveries:
            self._leaser.put_back(delivery)

    async def _interrupt(self, groups: Iterable[Group]) -> None:
        record_interrupted = self._recorder.record_interrupted
        await asyncio.gather(*[record_interrupted(one, 0.0) for group in groups for one in group.deliveries])

    async def _record_group(self, group: Group, result: BatchOutcome, *, conclusive: bool = True) -> None:
        outcomes = result.items or [result.whole] * len(group.parts)
        for due in await self._recorder.record_batch(group.deliveries, outcomes, conclusive=conclusive):
            self._check_store_for(due)


def _with_one_more_attempt(delivery: Delivery) -> Delivery:
    return msgspec.structs.replace(delivery, attempts=delivery.attempts + 1)


def _cut(parts: Iterable[BatchItem], size: int) -> Iterator[list[BatchItem]]:
    """Cut into runs of which each is a body of at most `size` bytes, or a single event."""
    run: list[BatchItem] = []
    length = _BRACKETS
    for part in parts:
        if run and length + _COMMA + len(part.element) > size:
            yield run
            run, length = [], _BRACKETS
        length += len(part.element) + (_COMMA if run else 0)
        run.append(part)
    if run:
        yield run
