"""Owns the lanes and what they share: the HTTP session, the result writer and the gauges."""

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
from gatehouse.delivery.testing import make_test_event
from gatehouse.delivery.throttle import Throttle
from gatehouse.errors import ConflictError, RelayFailedError
from gatehouse.language.times import rfc3339
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import aiohttp

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.delivery.state import DestinationState
    from gatehouse.events.event import Event
    from gatehouse.store.base import Counts, Delivery, Reply, Store
    from gatehouse.telemetry.live import Hub
    from gatehouse.telemetry.metrics import Metrics

#: Seconds between two comparisons of the gauges with the store.
REFRESH = 15.0


class Dispatcher:
    """Delivers new events from the committer, and deliveries that are already in the store.

    Deliveries to destinations that are not in the config stay unchanged in the store.
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
        live: Hub | None = None,
    ) -> None:
        """`clock` returns steady Unix time. `wall_time` converts such a time to what the system clock shows.

        `wall_clock` returns the time of the system clock, which destinations and operators compare with.
        """
        self._destinations = tuple(destinations)
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._wall_time = wall_time
        self._wall_clock = wall_clock or clock
        self._uniform = uniform
        self._live = live
        self._results = batch_results(store)
        self._gauges: dict[str, DestinationGauges] = {}
        for destination in self._destinations:
            self._gauge(destination.name)
        self._lanes: dict[str, Lane] = {}
        #: Destinations that have deliveries in the store but are not in the config. Logged once each.
        self._parked: set[str] = set()
        self._pauses = Pauses(store, self._apply_pause)
        self._session: aiohttp.ClientSession | None = None
        self._refresher: asyncio.Task[None] | None = None
        #: Set when the gauges are known to differ from the store.
        self._stale = asyncio.Event()
        self._retired_lanes = RetiredLanes(self._stale.set)

    async def start(self) -> None:
        """Start to deliver. Deliveries that an earlier process left in the store come first."""
        self._session = open_session()
        await self._refresh()
        await self._pauses.start()
        self._store.watch(self._store_changed)
        for destination in self._destinations:
            self._open(destination, self._session)
        self._refresher = asyncio.create_task(self._refresh_loop(), name="delivery gauges")

    def replace(self, destinations: Iterable[Destination]) -> None:
        """Switch to a new set of destinations in one step, without awaiting anything.

        A destination that did not change keeps its lane and its backlog. A destination that changed gets a
        new lane: the new lane takes over the backlog, and attempts in progress finish in the old one. A
        destination that was removed leaves its deliveries in the store, where they stay counted until it
        returns.
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
        """Return whether a new delivery should be stored as leased and handed over in memory."""
        lane = self._lanes.get(destination)
        return lane is not None and lane.has_room()

    def hand_over(self, delivery: Delivery) -> None:
        """Take a new delivery that is committed and leased to this process."""
        self._gauge(delivery.destination).pending.add(1)
        # There is no lane when a reload has just removed the route's destination. The lease then expires.
        if lane := self._lanes.get(delivery.destination):
            lane.take(delivery)

    def delivery_stored(self, destination: str, received: float) -> None:
        """Count a new delivery that is only in the store, and make its lane check the store.

        `received` is when its event was received (Unix seconds).
        """
        gauges = self._gauge(destination)
        gauges.pending.add(1)
        gauges.stored(received)
        if lane := self._lanes.get(destination):
            lane.delivery_stored()

    async def relay(self, destination: str, event: Event, number: int, *, within: float) -> Reply:
        """Attempt an event at once and return a 2xx reply. Raises the same errors as `RelayAttempts.attempt`.

        `within` is the time limit for the whole reply, in seconds.
        """
        lane = self._lanes.get(destination)
        if lane is None:  # a reload has just removed the destination
            raise RelayFailedError("no_destination")
        return await lane.relay.attempt(event, number, within=within)

    def count_relayed(self, destination: str, event: Event) -> None:
        """Count an event that `relay` delivered, once it is stored as delivered."""
        if lane := self._lanes.get(destination):
            lane.relay.count_relayed(event)

    async def pause(self, name: str) -> None:
        """Stop delivering to a destination until `resume`. The pause survives a restart.

        Attempts in progress finish, and new deliveries stay in the store. Deliveries do not become dead
        letters during the pause: after the resume, each one is attempted at least once. Raises `KeyError` for
        a destination that is not in the config, and `StoreUnavailableError`. If it raises, nothing has
        changed.
        """
        if name not in self._lanes:
            raise KeyError(name)
        await self._pauses.change(name, paused=True)
        if lane := self._lanes.get(name):  # a reload may have removed the lane meanwhile
            lane.pause()
            # The store has the oldest delivery now.
            self._stale.set()

    async def resume(self, name: str) -> None:
        """Deliver to a destination again. Raises the same errors as `pause`."""
        if name not in self._lanes:
            raise KeyError(name)
        await self._pauses.change(name, paused=False)
        if lane := self._lanes.get(name):
            lane.resume()

    def probe(self, name: str) -> None:
        """Let the next probe of an open circuit breaker start now.

        Raises `KeyError` for a destination that is not in the config, and `ConflictError` if the destination
        is paused or its breaker is closed.
        """
        lane = self._lanes[name]
        if lane.throttle.paused:
            raise ConflictError("paused", f"{name} is paused; resume it to deliver to it")
        if not lane.throttle.breaker_open:
            raise ConflictError(
                "breaker_closed", f"the circuit breaker of {name} is closed; nothing to probe"
            )
        lane.probe()

    async def send_test(self, name: str) -> Outcome:
        """Send a test event to a destination, and return the outcome. Nothing is stored, retried or counted.

        Raises `KeyError` for a destination that is not in the config, and `ConflictError` if it is not ready.
        """
        lane = self._lanes[name]
        if lane.destination.not_ready is not None:
            raise ConflictError("not_ready", f"{name} is not ready: {lane.destination.not_ready}")
        return await lane.attempt_test(make_test_event(name, self._wall_clock()))

    def configured(self) -> frozenset[str]:
        """Return the names of the destinations in the config."""
        return frozenset(destination.name for destination in self._destinations)

    def backlog(self, name: str) -> int | None:
        """Return the number of pending deliveries; None while no attempt but a probe can start."""
        lane = self._lanes.get(name)
        if lane is None or lane.destination.not_ready is not None:
            return None
        throttle = lane.throttle
        return None if throttle.paused or throttle.breaker_open else self._gauges[name].pending.number

    def wake(self, name: str, *, pending: int = 0, dead: int = 0, recount: bool = True) -> None:
        """Check the store now, because a delivery to this destination became due. Ignores unknown names.

        `pending` and `dead` are the changes to the two gauges. Under load, a count of the store can be too
        late to be used, so the gauges are adjusted here. `recount` compares them with the store soon.
        """
        if gauges := self._gauges.get(name):
            gauges.pending.add(pending)
            gauges.dead.add(dead)
        if lane := self._lanes.get(name):
            lane.check_store()
        if recount:
            self._stale.set()

    def _store_changed(self, name: str) -> None:
        """Check the store after a process, maybe this one, changed something at a destination."""
        self._pauses.read_soon()
        if lane := self._lanes.get(name):
            lane.check_store()

    def _apply_pause(self, name: str) -> None:
        """Apply a pause or a resume that another process stored."""
        if lane := self._lanes.get(name):
            (lane.pause if name in self._pauses else lane.resume)()

    def starts_at(self, name: str, due: float) -> float | None:
        """Return when a delivery that is due at `due` can start; None while none can.

        That is the case while the destination is paused, lacks its secret, or is not in the config.
        """
        lane = self._lanes.get(name)
        return (
            None
            if lane is None or lane.destination.not_ready is not None
            else lane.throttle.starts_at(self._wall_time(due))
        )

    def describe(self) -> list[DestinationState]:
        """Return the state of every destination, in the order of the config."""
        return [self._describe(destination) for destination in self._destinations]

    def _describe(self, destination: Destination) -> DestinationState:
        name = destination.name
        lane, gauges = self._lanes.get(name), self._gauges[name]
        return {
            "name": name,
            "url": redact_url(destination.url),
            "format": destination.format,
            "auth": destination.auth,
            "ready": destination.not_ready is None,
            "not_ready": destination.not_ready,
            "paused": lane is not None and lane.throttle.paused,
            "breaker": "open" if lane is not None and lane.throttle.breaker_open else "closed",
            "failures": 0 if lane is None else lane.throttle.failures,
            "open_since": _moment(None if lane is None else lane.throttle.open_since),
            "next_probe": _moment(None if lane is None else lane.throttle.next_probe),
            "pending": gauges.pending.number,
            "oldest_pending": _moment(gauges.oldest_pending()),
            "dead": gauges.dead.number,
            "concurrency": destination.concurrency if lane is None else lane.slots,
            "waiting": 0 if lane is None else lane.waiting,
        }

    async def stop(self, grace: float) -> None:
        """Start no more attempts, give those in progress `grace` seconds, and release the rest."""
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
                # The leases of its deliveries expire.
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
            self._gauges[name] = DestinationGauges(
                metrics, shared=self._store.shared, clock=self._clock, held=lambda: self._held(name)
            )
        return self._gauges[name]

    def _held(self, name: str) -> list[float]:
        """Return when the events of the deliveries in memory were received."""
        lane = self._lanes.get(name)
        return [] if lane is None else lane.received_times()

    def _lane(self, destination: Destination, session: aiohttp.ClientSession) -> Lane:
        if destination.not_ready is not None:
            get_logger().error(
                "destination.not_ready", destination=destination.name, reason=destination.not_ready
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
            live=self._live,
        )
        forwarder = Forwarder(destination, session, clock=self._wall_clock)
        return Lane(
            destination,
            store=self._store,
            forwarder=forwarder,
            recorder=recorder,
            throttle=throttle,
            metrics=metrics,
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
        except Exception as error:  # noqa: BLE001 - keep the gauges as they are and count again later
            get_logger().error("store.unavailable", error=type(error).__name__)
            return
        for name in {*self._gauges, *counts}:
            gauges = self._gauge(name)
            gauges.reconcile(snapshots.get(name) or gauges.snapshot(), counts.get(name))
        self._update_unconfigured(counts)

    def _update_unconfigured(self, counts: Mapping[str, Counts]) -> None:
        """Keep the gauges of removed destinations while they have deliveries, then delete them."""
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
