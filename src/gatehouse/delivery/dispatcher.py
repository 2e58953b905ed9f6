"""Owns the lanes, the session and the recording they share, and the gauges."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from gatehouse.delivery.destination import redact_url
from gatehouse.delivery.forwarder import Forwarder
from gatehouse.delivery.gauges import DestinationGauges
from gatehouse.delivery.http_client import open_session
from gatehouse.delivery.lane import Lane, RetiredLanes
from gatehouse.delivery.pauses import Pauses
from gatehouse.delivery.recorder import Recorder, batch_results
from gatehouse.delivery.throttle import Throttle
from gatehouse.errors import RelayFailedError
from gatehouse.language.times import rfc3339
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import aiohttp

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.state import DestinationState
    from gatehouse.events.event import Event
    from gatehouse.store.base import Counts, Delivery, Reply, Store
    from gatehouse.telemetry.metrics import Metrics

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
        wall_time: Callable[[float], float] = lambda moment: moment,
        wall_clock: Callable[[], float] | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`clock`: unix seconds that go on evenly. `shown`: what the machine's clock shows at such a time.

        `wall`: the machine's clock, which destinations and people compare with.
        """
        self._destinations = tuple(destinations)
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._wall_time = wall_time
        self._wall_clock = wall_clock or clock
        self._uniform = uniform
        self._results = batch_results(store)
        self._gauges: dict[str, DestinationGauges] = {}
        for destination in self._destinations:
            self._gauge(destination.name)
        self._lanes: dict[str, Lane] = {}
        #: Destinations that are not configured and yet have deliveries in the store, as last logged.
        self._parked: set[str] = set()
        self._pauses = Pauses(store, self._apply_pause)
        self._session: aiohttp.ClientSession | None = None
        self._refresher: asyncio.Task[None] | None = None
        #: The gauges are known to be behind the store.
        self._stale = asyncio.Event()
        self._retired_lanes = RetiredLanes(self._stale.set)

    async def start(self) -> None:
        """Start to deliver, first of all what an earlier process left behind."""
        self._session = open_session()
        await self._refresh()
        await self._pauses.start()
        self._store.watch(self._store_changed)
        for destination in self._destinations:
            self._open(destination, self._session)
        self._refresher = asyncio.create_task(self._refresh_loop(), name="delivery gauges")

    def replace(self, destinations: Iterable[Destination]) -> None:
        """Deliver to these from now on. It is one step: nothing runs in between.

        A destination that did not change keeps its lane, with all that waits in it. One that did gets a new
        lane, which takes up what waited in the old one while attempts under way end as they began. One that
        is gone leaves its deliveries in the store, counted, for the day it is back.
        """
        assert self._session is not None, "not started"  # noqa: S101
        self._destinations = tuple(destinations)
        for name, lane in list(self._lanes.items()):
            if lane.destination not in self._destinations:
                self._retired_lanes.add(self._lanes.pop(name))
        for destination in self._destinations:
            if destination.name not in self._lanes:
                self._open(destination, self._session)
        self._stale.set()

    def has_room(self, destination: str) -> bool:
        """Tell whether a new delivery should be stored as leased and handed over."""
        lane = self._lanes.get(destination)
        return lane is not None and lane.has_room()

    def hand_over(self, delivery: Delivery) -> None:
        """Take a new delivery, committed and leased to this process."""
        self._gauge(delivery.destination).pending.add(1)
        # Without a lane, it came by a route that a reload has just taken away: its lease ends by itself.
        if lane := self._lanes.get(delivery.destination):
            lane.take(delivery)

    def accepted(self, destination: str) -> None:
        """Learn of a new delivery that is in the store only: counted, and its lane looks there."""
        self._gauge(destination).pending.add(1)
        if lane := self._lanes.get(destination):
            lane.delivery_stored()

    async def relay(self, destination: str, event: Event, number: int, *, within: float) -> Reply:
        """Attempt an event at once, and return the 2xx that came `within` seconds. Raises as `Asking.ask`."""
        lane = self._lanes.get(destination)
        if lane is None:  # a reload has just taken it away
            raise RelayFailedError("no_destination")
        return await lane.relay.attempt(event, number, within=within)

    def relayed(self, destination: str, event: Event) -> None:
        """Learn that an event is in the store as delivered, after its `relay`."""
        if lane := self._lanes.get(destination):
            lane.relay.count_relayed(event)

    async def pause(self, name: str) -> None:
        """Let a destination be until `resume`, also after a restart; what comes for it stays in the store.

        Attempts under way finish. Deliveries are not given up on meanwhile, however old they get: after the
        resume those are attempted as long as the destination answers. Raises `KeyError` for a destination
        that is not configured, and `StoreUnavailableError`; nothing is changed then.
        """
        if name not in self._lanes:
            raise KeyError(name)
        await self._pauses.change(name, paused=True)
        if lane := self._lanes.get(name):  # a reload may have come in between
            lane.pause()

    async def resume(self, name: str) -> None:
        """Deliver to a destination again. Raises as `pause` does."""
        if name not in self._lanes:
            raise KeyError(name)
        await self._pauses.change(name, paused=False)
        if lane := self._lanes.get(name):
            lane.resume()

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        """Look into the store now: someone made a delivery due there. A name that is unknown is nothing.

        `pending` and `dead` are by how much that changed their numbers: while much is delivered, a count
        comes too late to be taken over, and the gauges would stay behind.
        """
        if gauges := self._gauges.get(name):
            gauges.pending.add(pending)
            gauges.dead.add(dead)
        if lane := self._lanes.get(name):
            lane.check_store()
        self._stale.set()

    def _store_changed(self, name: str) -> None:
        """Learn that another process, or this one, changed something at a destination."""
        self._pauses.read_soon()
        if lane := self._lanes.get(name):
            lane.check_store()

    def _apply_pause(self, name: str) -> None:
        """Do what another process was asked to do: it paused a destination, or resumed it."""
        if lane := self._lanes.get(name):
            (lane.pause if name in self._pauses else lane.resume)()

    def starts_at(self, name: str, due: float) -> float | None:
        """Return when what is due at a time may indeed start; None while nothing starts at a destination.

        Nothing does while it is paused, has no secret, or is not configured.
        """
        lane = self._lanes.get(name)
        return (
            None
            if lane is None or lane.destination.not_ready is not None
            else lane.throttle.starts_at(self._wall_time(due))
        )

    def describe(self) -> list[DestinationState]:
        """Say how each destination is, in the order of the config."""
        return [self._describe(destination) for destination in self._destinations]

    def _describe(self, destination: Destination) -> DestinationState:
        name = destination.name
        lane, gauges = self._lanes.get(name), self._gauges[name]
        return {
            "name": name,
            "url": redact_url(destination.url),
            "format": destination.format,
            "ready": destination.not_ready is None,
            "not_ready": destination.not_ready,
            "paused": lane is not None and lane.throttle.paused,
            "breaker": "open" if lane is not None and lane.throttle.breaker_open else "closed",
            "open_since": _moment(None if lane is None else lane.throttle.open_since),
            "next_probe": _moment(None if lane is None else lane.throttle.next_probe),
            "pending": gauges.pending.number,
            "dead": gauges.dead.number,
            "waiting": 0 if lane is None else lane.waiting,
        }

    async def stop(self, grace: float) -> None:
        """Stop taking, let attempts under way finish for `grace` seconds, record them, release the rest."""
        for lane in self._lanes.values():
            lane.close()
        self._pauses.stop()
        if self._refresher is not None:
            self._refresher.cancel()
        stopped = await asyncio.gather(
            *(lane.stop(grace) for lane in self._lanes.values()),
            self._retired_lanes.stop(grace),
            return_exceptions=True,
        )
        for error in stopped:
            if isinstance(error, Exception):
                # Their leases end by themselves.
                get_logger().error("delivery.failed", error=type(error).__name__)
        await self._results.drain()
        if self._session is not None:
            await self._session.close()

    def _open(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        name = destination.name
        self._gauge(name)
        lane = self._lanes[name] = self._lane(destination, session)
        self._retired_lanes.set_successor(lane)
        lane.start(paused=name in self._pauses)

    def _gauge(self, name: str) -> DestinationGauges:
        if name not in self._gauges:
            metrics = self._metrics.destination(name)
            self._gauges[name] = DestinationGauges(metrics, shared=self._store.shared)
        return self._gauges[name]

    def _lane(self, destination: Destination, session: aiohttp.ClientSession) -> Lane:
        if destination.not_ready is not None:
            get_logger().error(
                "destination.not_ready", destination=destination.name, why=destination.not_ready
            )
        metrics = self._metrics.destination(destination.name)
        throttle = Throttle(destination, metrics, self._wall_clock)
        recorder = Recorder(
            destination,
            results=self._results,
            metrics=metrics,
            gauges=self._gauges[destination.name],
            clock=self._clock,
            uniform=self._uniform,
            starts_at=lambda due: throttle.starts_at(self._wall_time(due)),
        )
        forwarder = Forwarder(destination, session, clock=self._wall_clock)
        return Lane(
            destination,
            store=self._store,
            forwarder=forwarder,
            recorder=recorder,
            throttle=throttle,
            clock=self._clock,
        )

    async def _refresh_loop(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH):
                    await self._stale.wait()
            self._stale.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        snapshots = {name: gauges.snapshot() for name, gauges in self._gauges.items()}
        try:
            counts = await self._store.counts()
        except Exception as error:  # noqa: BLE001 - the gauges go on as they are, and are counted again
            get_logger().error("store.unavailable", error=type(error).__name__)
            return
        for name in {*self._gauges, *counts}:
            gauges = self._gauge(name)
            gauges.reconcile(snapshots.get(name) or gauges.snapshot(), counts.get(name), self._clock())
        self._update_unconfigured(counts)

    def _update_unconfigured(self, counts: Mapping[str, Counts]) -> None:
        """Keep what waits for destinations that are not configured in sight, and let go of the others."""
        names = self._gauges.keys() - {destination.name for destination in self._destinations}
        self._parked &= names
        for name in names:
            if self._gauges[name].pending.number and name not in self._parked:
                self._parked.add(name)
                pending = self._gauges[name].pending.number
                get_logger().warning("destination.parked", destination=name, pending=pending)
            elif (
                name not in counts
                and not self._gauges[name].pending.number
                and name not in self._retired_lanes
            ):
                del self._gauges[name]
                self._metrics.forget_destination(name)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
