"""Attempts deliveries, one at a time or several in one POST, and has the outcomes recorded.

When a batch fails because of one event, it is split in halves until the failing event is alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gatehouse.delivery.forwarder import BatchItem
from gatehouse.delivery.outcome import Outcome
from gatehouse.delivery.retry import is_refused, retry_rule
from gatehouse.store.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import BatchOutcome, Forwarder
    from gatehouse.delivery.leasing import Leaser
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.throttle import Throttle
    from gatehouse.errors import OutcomeReason


class Claim(NamedTuple):
    """The deliveries that a worker has taken: all of them new, or all of them retries."""

    deliveries: Sequence[Delivery]
    #: Whether this attempt tests if the destination is back.
    probe: bool


class Attempts:
    """Attempts the deliveries of one destination, each in its own POST."""

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
        on_outcome: Callable[[Outcome, bool], bool],
    ) -> None:
        self._destination = destination
        self._forwarder = forwarder
        self._recorder = recorder
        self._throttle = throttle
        self._leaser = leaser
        self._clock = clock
        #: Called when the breaker's state may have changed.
        self._on_change = on_change
        #: Called with the outcome of every POST, and whether it was a probe. Returns whether all slots are in
        #: use. A delivery keeps its slot until its outcome is stored.
        self._on_outcome = on_outcome
        #: Workers that wait for a reply. If one is cancelled, its attempt still counts.
        self.in_flight: set[asyncio.Task[None]] = set()

    async def run(self, claim: Claim, worker: asyncio.Task[None]) -> None:
        """Attempt the claimed deliveries. Returns after the outcomes are stored."""
        (delivery,) = claim.deliveries
        started = time.monotonic()
        self.in_flight.add(worker)
        try:
            outcome = await self._forwarder.attempt(delivery.event, delivery.attempts + 1)
        except asyncio.CancelledError:
            # The grace period of `Lane.stop` is over. The destination may have the event, so the attempt
            # counts.
            self.in_flight.discard(worker)
            await self._recorder.record_interrupted(delivery, time.monotonic() - started)
            return
        self.in_flight.discard(worker)
        is_full = self._observe(delivery, outcome, probe=claim.probe)
        # Nobody waits for the outcome of a delivery that ends well and holds nothing back.
        urgent = is_full or outcome.reason != "ok" or self._destination.ordered
        await self._record(delivery, outcome, urgent=urgent)

    def _observe(self, delivery: Delivery, outcome: Outcome, *, probe: bool) -> bool:
        """Tell the throttle and the lane an outcome. Returns whether all slots are in use."""
        if self._throttle.observe(outcome, probe=probe, event=delivery.event.id):
            self._on_change()
        return self._on_outcome(outcome, probe)

    async def _record(self, delivery: Delivery, outcome: Outcome, *, urgent: bool = True) -> None:
        """Record an outcome."""
        self._check_store_for(await self._recorder.record(delivery, outcome, urgent=urgent))

    def _check_store_for(self, due: float | None) -> None:
        """Make the leaser check the store when the outcome made a delivery due there."""
        if due is not None:
            self._leaser.check_store_at(due)
        elif self._destination.ordered:
            # The next delivery with the same order key was held back behind this one and may start now.
            self._leaser.check_store()


#: The bytes of the brackets around a batch, and of the comma before each further element.
_BRACKETS, _COMMA = 2, 1
#: Failures that come fast, so the batch is halved at once. After others, smaller batches are retried later.
_MAY_BE_FOR_ONE: tuple[OutcomeReason, ...] = ("server_error", "disconnected", "invalid_reply")


class Group(NamedTuple):
    """The content of one POST."""

    items: tuple[BatchItem, ...]
    #: Half of an earlier POST. It counts against the rate limit again.
    is_half: bool = False
    #: The outcome of that POST, unless the destination refused it.
    failure: Outcome | None = None

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries, each with its number of attempts."""
        return [item.delivery for item in self.items]


class BatchAttempts(Attempts):
    """Attempts the deliveries of one destination, several in a POST.

    A batch that the destination refuses or fails contains at least one event that it can't process, and
    nothing says which. The batch is sent again at once in halves, and each failing half in halves again,
    until the bad event is alone. The number of splits is bounded. For refusals, the bound is large enough to
    find two bad events: a destination that refuses everything, such as an app during its deployment, gets
    the rest later. For failures, it is large enough to find every bad event, but an open breaker ends the
    search. The rest is retried later in smaller batches.
    """

    async def run(self, claim: Claim, worker: asyncio.Task[None]) -> None:
        """Attempt the claimed deliveries. Returns after the outcomes are stored."""
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
            if len(group.items) == 1 or not (refused or self._may_be_one_event(result.whole)):
                await self._record_group(group, result)
            elif (
                refusals_left if refused else splits < len(claim.deliveries)
            ) and not self._throttle.breaker_open:
                splits, refusals_left = splits + 1, refusals_left - refused
                groups.extendleft(reversed(self._split(group, result.whole)))
            else:
                await self._record_group(group, result, conclusive=False)

    async def _groups(self, deliveries: Sequence[Delivery]) -> list[Group]:
        """Encode the events, and divide them so that no POST is too long."""
        items: list[BatchItem] = []
        for delivery in deliveries:
            item = self._forwarder.encode_item(delivery)
            if isinstance(item, BatchItem):
                items.append(item)
            else:
                await self._record(delivery, item)
        assert self._destination.batch is not None  # noqa: S101 - without it there are no batches
        return [Group(tuple(some)) for some in _cut(items, self._destination.batch.bytes)]

    async def _attempt(self, group: Group, worker: asyncio.Task[None]) -> BatchOutcome | None:
        """POST a group when the rate limit allows it. None: the grace period of `Lane.stop` ended."""
        self.in_flight.add(worker)
        try:
            if group.is_half:
                await self._throttle.wait_for_rate()
                self._throttle.count_started(len(group.items))
            return await self._forwarder.attempt_batch(group.items)
        except asyncio.CancelledError:
            return None
        finally:
            self.in_flight.discard(worker)

    def _is_refused(self, whole: Outcome) -> bool:
        return is_refused(whole, retry_rule(self._destination.retry_on, whole.http_status))

    def _may_be_one_event(self, whole: Outcome) -> bool:
        """Return whether one event may be the cause. A status in `retry_on` concerns the whole batch."""
        return whole.reason in _MAY_BE_FOR_ONE and not retry_rule(
            self._destination.retry_on, whole.http_status
        )

    def _split(self, group: Group, whole: Outcome) -> list[Group]:
        count_resent = self._recorder.count_resent
        items = [BatchItem(count_resent(item.delivery, whole), item.element) for item in group.items]
        middle = len(items) // 2
        failure = None if self._is_refused(whole) else whole
        return [Group(tuple(some), True, failure) for some in (items[:middle], items[middle:])]

    async def _postpone(self, group: Group, outcome: Outcome) -> None:
        """Record a group that failed within a larger one and is not attempted by itself now."""
        for due in await self._recorder.record_postponed(group.deliveries, outcome):
            self._check_store_for(due)

    def _put_back(self, group: Group) -> None:
        for delivery in group.deliveries:
            self._leaser.put_back(delivery)

    async def _interrupt(self, groups: Iterable[Group]) -> None:
        record_interrupted = self._recorder.record_interrupted
        await asyncio.gather(*[record_interrupted(one, 0.0) for group in groups for one in group.deliveries])

    async def _record_group(self, group: Group, result: BatchOutcome, *, conclusive: bool = True) -> None:
        outcomes = result.items or [result.whole] * len(group.items)
        for due in await self._recorder.record_batch(group.deliveries, outcomes, conclusive=conclusive):
            self._check_store_for(due)


def _cut(items: Iterable[BatchItem], size: int) -> Iterator[list[BatchItem]]:
    """Divide into bodies of at most `size` bytes. A larger event gets its own body."""
    run: list[BatchItem] = []
    length = _BRACKETS
    for item in items:
        if run and length + _COMMA + len(item.element) > size:
            yield run
            run, length = [], _BRACKETS
        length += len(item.element) + (_COMMA if run else 0)
        run.append(item)
    if run:
        yield run
