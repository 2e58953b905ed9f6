"""What a worker takes: leased for long enough, let through the gate, and as many as go in one POST."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.delivery.attempts import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.backlog import Waiting
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.leasing import Supply
    from gatehouse.delivery.throttle import Gate
    from gatehouse.store.base import Delivery

#: What an event's attributes take in a batch, besides its body. A batch that is longer than thought is cut.
_ATTRIBUTES = 400
#: After a failure an event goes with so many times fewer others, and after more failures than these alone.
_SMALLER = 8
_SMALLER_FOR = 1


class Intake:
    """Gives the workers of one lane what they may attempt."""

    def __init__(
        self,
        destination: Destination,
        *,
        waiting: Waiting,
        gate: Gate,
        supply: Supply,
        clock: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._waiting = waiting
        self._gate = gate
        self._supply = supply
        self._clock = clock
        #: Whether a delivery can go as soon as it is there: no rate to wait for, and no company.
        self._at_once = destination.rate is None and destination.batch is None
        #: Else one worker at a time waits: for the rate, for a delivery, and for more to go with it.
        self._turn = asyncio.Lock()
        #: Whether the last one was taken from the end that came last.
        self._newest = False

    async def next(self) -> Load:
        """Wait for what may be attempted at this moment.

        Nothing is taken before the waiting is over: a lease does not run out over the rate, and a worker that
        is stopped holds nothing.
        """
        while self._at_once:
            if (load := self._load()).deliveries:
                return load
            # No turns here: each delivery wakes a worker of its own, so what came together starts together.
            await self._waiting.another()
        async with self._turn:
            while True:
                await self._gate.turn()
                await self._waiting.some()
                batch = self._destination.batch
                if batch and self._waits_for_company():
                    await self._waiting.enough(self._destination.at_once, batch.bytes, batch.linger)
                load = self._load()
                if load.deliveries:
                    self._gate.count(len(load.deliveries))
                    return load

    def _waits_for_company(self) -> bool:
        """Tell whether more may come that goes into the same POST: not with retries, nor with a probe."""
        return self._waiting.room > 0 and self._waiting.is_new_next and not self._gate.breaker_open

    def _load(self) -> Load:
        """Take as many deliveries as go into a POST; a probe goes alone, and new ones never with retries."""
        newest = not self._gate.is_calm and self._takes_newest()
        first = self._take(newest=newest, admit=self._gate.admit)
        if first is None:
            return Load((), probe=False)
        probe, load = self._gate.breaker_open, [first]
        batch = self._destination.batch
        if batch is not None and not probe:
            self._fill(load, batch.bytes, newest=newest)
        if first.attempts:
            self._waiting.retry_started()
        return Load(load, probe)

    def _takes_newest(self) -> bool:
        """Tell which end to take from: by turns while what waits longest may be what can't be processed."""
        # The next load is looked at again, so that it stays so no longer than failures are seen.
        self._waiting.new_first = self._gate.is_failing
        self._newest = self._gate.is_suspicious and not self._newest
        return self._newest and self._waiting.is_new_next

    def _fill(self, load: list[Delivery], room: int, *, newest: bool) -> None:
        """Add what goes into the same POST."""
        retry, room = bool(load[0].attempts), room - _size(load[0])
        most = self._company(load[0])
        while self._waiting.some_may_start and self._waiting.is_new_next != retry:
            following = self._waiting.first(newest=newest)
            room, most = room - _size(following), min(most, self._company(following))
            if room < 0 or len(load) >= most:
                return
            delivery = self._take(newest=newest)
            if delivery is None:
                return
            load.append(delivery)

    def _company(self, delivery: Delivery) -> int:
        """Return how many go with a delivery: fewer after a failure, so that a bad event stands alone."""
        if delivery.attempts > _SMALLER_FOR:
            return 1
        return (
            max(1, self._destination.at_once // _SMALLER) if delivery.attempts else self._destination.at_once
        )

    def _take(self, *, newest: bool, admit: Callable[[], bool] = lambda: True) -> Delivery | None:
        """Take the next delivery whose lease lasts for an attempt, if it may start."""
        waiting, supply = self._waiting, self._supply
        while waiting.some_may_start:
            delivery = waiting.take(newest=newest)
            if not waiting.plenty:
                supply.has_room_again()
            if delivery.attempts and not waiting.plenty_of_retries:
                supply.has_room_for_retries()
            if self._destination.lets_start(delivery, self._clock()) and admit():
                return delivery
            supply.put_back(delivery)
            newest = newest and waiting.is_new_next
        return None


def _size(delivery: Delivery) -> int:
    return len(delivery.event.body) + _ATTRIBUTES
