"""What a worker takes: leased for long enough, let through the gate, and as many as go in one POST."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.delivery.attempts import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.gate import Gate
    from gatehouse.delivery.supply import Supply
    from gatehouse.delivery.waiting import Waiting
    from gatehouse.store.base import Delivery

#: What an event's attributes take in a batch, besides its body. A batch that is longer than thought is cut.
_ATTRIBUTES = 400


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
                if batch and self._waiting.room > 0 and not self._gate.breaker_open:
                    await self._waiting.enough(self._destination.at_once, batch.bytes, batch.linger)
                load = self._load()
                if load.deliveries:
                    self._gate.count(len(load.deliveries))
                    return load

    def _load(self) -> Load:
        """Take as many deliveries as go into a POST; a probe goes alone."""
        first = self._take(self._gate.admit)
        if first is None:
            return Load((), probe=False)
        probe, load = self._gate.breaker_open, [first]
        batch = self._destination.batch
        if batch is not None and not probe:
            left = batch.bytes - _size(first)
            while self._waiting and len(load) < self._destination.at_once:
                left -= _size(self._waiting.first())
                delivery = self._take() if left >= 0 else None
                if delivery is None:
                    break
                load.append(delivery)
        return Load(load, probe)

    def _take(self, admit: Callable[[], bool] = lambda: True) -> Delivery | None:
        """Take the next delivery whose lease lasts for an attempt, if it may start."""
        while self._waiting:
            delivery = self._waiting.take()
            if not self._waiting.plenty:
                self._supply.has_room_again()
            if self._destination.lets_start(delivery, self._clock()) and admit():
                return delivery
            self._supply.put_back(delivery)
        return None


def _size(delivery: Delivery) -> int:
    return len(delivery.event.body) + _ATTRIBUTES
