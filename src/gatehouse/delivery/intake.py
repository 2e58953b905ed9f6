"""Gives a worker the deliveries for its next POST: within lease, breaker, rate and batch limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.delivery.attempts import Claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.backlog import Backlog
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.leasing import Leaser
    from gatehouse.delivery.throttle import Throttle
    from gatehouse.store.base import Delivery

#: The estimated size of an event's attributes in a batch (bytes). A batch that turns out longer is cut.
_ATTRIBUTES = 400
#: An event that failed goes into a batch this many times smaller. After more failures than
#: `_REDUCED_ATTEMPTS`, it goes alone.
_REDUCED = 8
_REDUCED_ATTEMPTS = 1


class Intake:
    """Gives the workers of one lane their deliveries."""

    def __init__(
        self,
        destination: Destination,
        *,
        backlog: Backlog,
        throttle: Throttle,
        leaser: Leaser,
        clock: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._backlog = backlog
        self._throttle = throttle
        self._leaser = leaser
        self._clock = clock
        #: Whether a delivery can start as soon as it arrives: without a rate limit and without batches.
        self._immediate = destination.rate is None and destination.batch is None
        #: Otherwise one worker at a time waits for the rate limit, a delivery, and the rest of its batch.
        self._turn_lock = asyncio.Lock()
        #: Whether the last claim was taken from the newest end.
        self._took_newest = False

    async def next(self) -> Claim:
        """Wait for deliveries that may be attempted now.

        They are taken only after the waiting. So no lease expires while the rate limit delays a worker, and a
        stopped worker holds no delivery.
        """
        while self._immediate:
            if (claimed := self._claim()).deliveries:
                return claimed
            # No lock here: each delivery wakes its own worker, so deliveries that arrive together start
            # together.
            await self._backlog.wait_for_next()
        async with self._turn_lock:
            while True:
                await self._throttle.wait_for_rate()
                await self._backlog.wait_startable()
                batch = self._destination.batch
                if batch and self._may_linger():
                    await self._backlog.wait_for_batch(self._destination.max_batch, batch.bytes, batch.linger)
                claimed = self._claim()
                if claimed.deliveries:
                    self._throttle.count_started(len(claimed.deliveries))
                    return claimed

    def _may_linger(self) -> bool:
        """Return whether more deliveries may arrive for the same POST. Retries and probes do not wait."""
        return self._backlog.room > 0 and self._backlog.next_is_new and not self._throttle.breaker_open

    def _claim(self) -> Claim:
        """Take the deliveries for one POST. A probe goes alone, and new deliveries never go with retries."""
        newest = not self._throttle.is_healthy and self._takes_newest()
        first = self._take(newest=newest, admit=self._throttle.admit)
        if first is None:
            return Claim((), probe=False)
        probe, claimed = self._throttle.breaker_open, [first]
        batch = self._destination.batch
        if batch is not None and not probe:
            self._fill(claimed, batch.bytes, newest=newest)
        if first.attempts:
            self._backlog.retry_started()
        return Claim(claimed, probe)

    def _takes_newest(self) -> bool:
        """Return which end to take from. The ends alternate while the oldest events may be poison events."""
        # Evaluated for each claim, so that it ends as soon as the failures end.
        self._backlog.prefer_new = self._throttle.is_failing
        self._took_newest = self._throttle.suspects_poison and not self._took_newest
        return self._took_newest and self._backlog.next_is_new

    def _fill(self, claimed: list[Delivery], room: int, *, newest: bool) -> None:
        """Add deliveries to the same POST."""
        retry, room = bool(claimed[0].attempts), room - _size(claimed[0])
        most = self._batch_limit(claimed[0])
        while self._backlog.has_startable and self._backlog.next_is_new != retry:
            following = self._backlog.peek(newest=newest)
            room, most = room - _size(following), min(most, self._batch_limit(following))
            if room < 0 or len(claimed) >= most:
                return
            delivery = self._take(newest=newest)
            if delivery is None:
                return
            claimed.append(delivery)

    def _batch_limit(self, delivery: Delivery) -> int:
        """Return the largest batch for a delivery: smaller after a failure, to isolate poison events."""
        if delivery.attempts > _REDUCED_ATTEMPTS:
            return 1
        return (
            max(1, self._destination.max_batch // _REDUCED)
            if delivery.attempts
            else self._destination.max_batch
        )

    def _take(self, *, newest: bool, admit: Callable[[], bool] = lambda: True) -> Delivery | None:
        """Take the next delivery that may start and whose lease lasts for an attempt."""
        backlog, leaser = self._backlog, self._leaser
        while backlog.has_startable:
            delivery = backlog.take(newest=newest)
            if not backlog.has_enough_new:
                leaser.room_freed()
            if delivery.attempts and not backlog.has_enough_retries:
                leaser.retry_room_freed()
            if self._destination.lease_covers_attempt(delivery, self._clock()) and admit():
                return delivery
            leaser.put_back(delivery)
            newest = newest and backlog.next_is_new
        return None


def _size(delivery: Delivery) -> int:
    event = delivery.event
    return len(event.body) + (0 if event.document is None else len(event.document)) + _ATTRIBUTES
