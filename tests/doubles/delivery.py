"""Events and destinations for tests, and a dispatcher on a real store."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from yarl import URL

from gatehouse.config.model import RetryConfig
from gatehouse.delivery.breaker import BreakerSettings
from gatehouse.delivery.destination import Destination
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.events.event import Event, new_id
from gatehouse.store.base import Arrival, Assignment, Delivery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

#: A policy that retries within milliseconds.
IMPATIENT = RetryConfig.model_construct(first=0.01, factor=1.0, max=0.01, give_up_after=3600.0)
#: A breaker that never opens.
NO_BREAKER = BreakerSettings(failures=1_000_000)

_EVENT: dict[str, Any] = {
    "source": "mandato",
    "path": "/webhooks/mandato",
    "provider": "mandato",
    "external_id": "evt_1",
    "type": "invoice.accepted",
    "time": "2025-01-15T10:00:15Z",
}


def make_event(body: bytes = b'{"amount": 1}', **fields: Any) -> Event:
    """Make an event whose data is the whole body."""
    now = time.time()
    given = {"id": new_id(now), "received": now, "body": body, "data_span": (0, len(body))}
    return Event(**(_EVENT | given | fields))


def make_destination(url: str, **fields: Any) -> Destination:
    """Make a destination whose failed deliveries are retried at once."""
    given: dict[str, Any] = {
        "name": "billing",
        "url": URL(url),
        "format": "cloudevents",
        "allowed": (),
        "timeout": 5.0,
        "concurrency": 4,
        "rate": None,
        "retry": IMPATIENT,
        "breaker": NO_BREAKER,
    }
    return Destination(**(given | fields))


class RunningDispatcher:
    """A running dispatcher, and the part of the committer that hands deliveries to it."""

    def __init__(
        self,
        file: Path,
        *destinations: Destination,
        clock: Callable[[], float] = time.time,
        through: Callable[[SqliteStore], Any] = lambda store: store,
    ) -> None:
        self._file = file
        self._destinations = destinations
        self._clock = clock
        #: Returns the store for the dispatcher: the store itself, or a wrapper that adds errors.
        self._through = through
        self.metrics = Metrics()

    async def __aenter__(self) -> Self:
        self.store = await SqliteStore.open(self._file, clock=self._clock)
        self.dispatcher = Dispatcher(
            self._destinations, store=self._through(self.store), metrics=self.metrics, clock=self._clock
        )
        await self.dispatcher.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.dispatcher.stop(grace=0.2)
        await self.store.close()

    async def accept(
        self,
        *events: Event,
        to: tuple[str, ...] = ("billing",),
        order_by: Callable[[Event], str | None] = lambda _: None,
    ) -> list[bool]:
        """Commit events and hand over their deliveries. Returns those that were leased for memory."""
        leased = [self.dispatcher.has_room(name) for name in to]
        arrivals = []
        for event in events:
            key = order_by(event)
            order_key = None if key is None else key.encode()
            assignments = [Assignment(*pair, order_key) for pair in zip(to, leased, strict=True)]
            arrivals.append(Arrival(event, (), tuple(assignments)))
        receipts = await self.store.accept(arrivals, deadline=time.monotonic() + 5)
        for event, arrival, receipt in zip(events, arrivals, receipts, strict=True):
            for assignment in arrival.assignments:
                if assignment.leased and assignment.destination not in receipt.held:
                    delivery = Delivery(
                        event, assignment.destination, 0, receipt.leased_until, token=receipt.token
                    )
                    self.dispatcher.hand_over(delivery)
                else:
                    self.dispatcher.delivery_stored(assignment.destination, event.received)
        return leased

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        found = self.metrics.registry.get_sample_value(f"gatehouse_{name}", labels)
        assert found is not None, name
        return found

    async def until(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a metric reaches a value, because results are recorded after the reply."""
        async with asyncio.timeout(10.0):
            while self.value(name, **labels) < wanted:  # noqa: ASYNC110 - a metric sends no notifications
                await asyncio.sleep(0.005)


def named(destination: Destination, name: str) -> Destination:
    """Return the same destination under another name."""
    return replace(destination, name=name)
