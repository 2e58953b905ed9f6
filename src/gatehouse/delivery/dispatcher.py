"""Owns the lanes, the session and the recording they share, and the gauges."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from gatehouse.delivery.forwarder import Forwarder, open_session
from gatehouse.delivery.gauges import DestinationGauges
from gatehouse.delivery.lane import Lane
from gatehouse.delivery.recorder import Recorder, batch_results
from gatehouse.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import aiohttp

    from gatehouse.delivery.destination import Destination
    from gatehouse.metrics import Metrics
    from gatehouse.store.base import Delivery, Store

#: How often the gauges are compared with the store (seconds).
REFRESH = 15.0


class Dispatcher:
    """Delivers what the committer has committed, and what the store holds from before.

    Deliveries for destinations that are not configured stay in the store, untouched.
    """

    def __init__(
        self,
        destinations: Iterable[Destination],
        *,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._destinations = tuple(destinations)
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._uniform = uniform
        self._results = batch_results(store)
        self._gauges = {d.name: DestinationGauges(metrics.destination(d.name)) for d in self._destinations}
        self._lanes: dict[str, Lane] = {}
        self._session: aiohttp.ClientSession | None = None
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to deliver, first of all what an earlier process left behind."""
        self._session = open_session()
        await self._refresh()
        for destination in self._destinations:
            self._lanes[destination.name] = self._lane(destination, self._session)
        for lane in self._lanes.values():
            lane.start()
        self._refresher = asyncio.create_task(self._keep_fresh(), name="delivery gauges")

    def has_room(self, destination: str) -> bool:
        """Tell whether a new delivery should be stored as leased and handed over."""
        lane = self._lanes.get(destination)
        return lane is not None and lane.has_room()

    def hand_over(self, delivery: Delivery) -> None:
        """Take a new delivery, committed and leased to this process."""
        if lane := self._lanes.get(delivery.destination):
            self._gauges[delivery.destination].pending.add(1)
            lane.take(delivery)

    def accepted(self, destination: str) -> None:
        """Learn of a new delivery that is in the store only: counted, and its lane looks there."""
        if lane := self._lanes.get(destination):
            self._gauges[destination].pending.add(1)
            lane.overflowed()

    async def stop(self, grace: float) -> None:
        """Stop taking, let attempts under way finish for `grace` seconds, record them, release the rest."""
        for lane in self._lanes.values():
            lane.close()
        if self._refresher is not None:
            self._refresher.cancel()
        stopped = await asyncio.gather(
            *(lane.stop(grace) for lane in self._lanes.values()), return_exceptions=True
        )
        for error in stopped:
            if isinstance(error, Exception):
                # Their leases end by themselves.
                get_logger().error("delivery.failed", error=type(error).__name__)
        await self._results.drain()
        if self._session is not None:
            await self._session.close()

    def _lane(self, destination: Destination, session: aiohttp.ClientSession) -> Lane:
        if destination.not_ready is not None:
            get_logger().error(
                "destination.not_ready", destination=destination.name, why=destination.not_ready
            )
        metrics = self._metrics.destination(destination.name)
        recorder = Recorder(
            destination,
            results=self._results,
            metrics=metrics,
            gauges=self._gauges[destination.name],
            clock=self._clock,
            uniform=self._uniform,
        )
        forwarder = Forwarder(destination, session, clock=self._clock)
        return Lane(
            destination,
            store=self._store,
            forwarder=forwarder,
            recorder=recorder,
            metrics=metrics,
            clock=self._clock,
        )

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            await self._refresh()

    async def _refresh(self) -> None:
        marks = {name: gauges.mark() for name, gauges in self._gauges.items()}
        try:
            counts = await self._store.counts()
        except Exception as error:  # noqa: BLE001 - the gauges go on as they are, and are counted again
            get_logger().error("store.unavailable", error=type(error).__name__)
            return
        for name, gauges in self._gauges.items():
            gauges.settle(marks[name], counts.get(name), self._clock())
