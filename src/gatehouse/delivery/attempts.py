"""What a worker does with a delivery: attempt it, learn from the outcome, have it recorded."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.forwarder import Forwarder
    from gatehouse.delivery.gate import Gate
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.recorder import Recorder
    from gatehouse.delivery.supply import Supply
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
