"""What a worker takes: leased for long enough, let through the gate, and as many as go in one POST."""

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

#: What an event's attributes take in a batch, besides its body. A batch that is longer than thought is cut.
_ATTRIBUTES = 400
#: After a failure an event goes with so many times fewer others, and after more failures than these alone.
_REDUCED = 8
_REDUCED_ATTEMPTS = 1


class Intake:
    """Gives the workers of one lane what they may attempt."""

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
        #: Whether a delivery can go as soon as it is there: no rate to wait for, and no company.
        self._immediate = destination.rate is None and destination.batch is None
        #: Else one worker at a time waits: for the rate, for a delivery, and for more to go with it.
        self._turn_lock = asyncio.Lock()
        #: Whether the last one was taken from the end that came last.
        self._took_newest = False

    async def next(self) -> Claim:
        """Wait for what may be attempted at this moment.

        Nothing is taken before the waiting is over: a lease does not run out over the rate, and a worker that
        is stopped holds nothing.
        """
        while self._immediate:
            if (claimed := self._claim()).deliveries:
                return claimed
            # No turns here: each delivery wakes a worker of its own, so what came together starts together.
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
        """Tell whether more may come that goes into the same POST: not with retries, nor with a probe."""
        return self._backlog.room > 0 and self._backlog.next_is_new and not self._throttle.breaker_open

    def _claim(self) -> Claim:
        """Take as many deliveries as go into a POST; a probe goes alone, and new ones never with retries."""
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
        """Tell which end to take from: by turns while what waits longest may be what can't be processed."""
        # The next load is looked at again, so that it stays so no longer than failures are seen.
        self._backlog.prefer_new = self._throttle.is_failing
        self._took_newest = self._throttle.suspects_poison and not self._took_newest
        return self._took_newest and self._backlog.next_is_new

    def _fill(self, claimed: list[Delivery], room: int, *, newest: bool) -> None:
        """Add what goes into the same POST."""
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
        """Return how many go with a delivery: fewer after a failure, so that a bad event stands alone."""
        if delivery.attempts > _REDUCED_ATTEMPTS:
            return 1
        return (
            max(1, self._destination.max_batch // _REDUCED)
            if delivery.attempts
            else self._destination.max_batch
        )

    def _take(self, *, newest: bool, admit: Callable[[], bool] = lambda: True) -> Delivery | None:
        """Take the next delivery whose lease lasts for an attempt, if it may start."""
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
    return len(delivery.event.body) + _ATTRIBUTES
