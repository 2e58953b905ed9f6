"""Simulates an hour of deliveries in seconds: the time of the event loop jumps to the next due timer.

The dispatcher, its lanes and the store's statements are real, and the statements run in this thread. Only
HTTP is replaced: an application of the test replies.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from doubles.delivery import make_event
from gatehouse.config.model import BatchConfig
from gatehouse.delivery import forwarder
from gatehouse.delivery.destination import Destination
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.delivery.http_client import Reply
from gatehouse.events.event import Event, new_id
from gatehouse.store.base import Arrival, Assignment, Delivery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.schema import migrate
from gatehouse.telemetry.metrics import Metrics

T = TypeVar("T")

#: The start time (Unix time).
START = 1_800_000_000.0
#: Returns the status for the body of a POST, after some virtual seconds.
App = Callable[[bytes], Awaitable[int]]


class _Selector(selectors.SelectSelector):
    """A selector that advances the time instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "no timer is left"
            self.now += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to its next timer."""

    def __init__(self) -> None:
        self.passing = _Selector()
        super().__init__(self.passing)

    def time(self) -> float:
        return self.passing.now


class InlineStore(SqliteStore):
    """The SQLite store without threads."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__(path, clock)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = OFF")
        migrate(self.connection)
        self._acceptor.resume(self.connection)

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, deadline: float = 0.0) -> T:
        await asyncio.sleep(0)
        self.connection.execute("BEGIN")
        found = work(self.connection)
        self.connection.execute("COMMIT")
        return found

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await asyncio.sleep(0)
        return work(self.connection)

    async def close(self) -> None:
        self.connection.close()


class World:
    """A dispatcher with one destination, and its events."""

    def __init__(self, path: Path, destination: Destination, app: App, loop: VirtualLoop) -> None:
        self.loop = loop
        self.app = app
        self.destination = destination
        self.store = InlineStore(path, self.clock)
        self.metrics = Metrics()
        self.dispatcher = Dispatcher(
            [destination],
            store=self.store,
            metrics=self.metrics,
            clock=self.clock,
            uniform=random.Random(1).uniform,  # noqa: S311 - the same each time
        )
        #: The time and the body of each POST.
        self.posts: list[tuple[float, bytes]] = []

    def clock(self) -> float:
        """Return the current time."""
        return START + self.loop.time()

    async def post(self, _: dict[str, str], body: bytes) -> Reply:
        """Reply in place of an HTTP client."""
        self.posts.append((self.loop.time(), body))
        return Reply(await self.app(body), None, None)

    async def accept(self, *bodies: bytes, order_by: Callable[[bytes], bytes] | None = None) -> list[Event]:
        """Commit events and hand them over, as the committer does."""
        name, now = self.destination.name, self.clock()
        events = [make_event(body, id=new_id(now), received=now) for body in bodies]
        leased = self.dispatcher.has_room(name)
        arrivals = [
            Arrival(event, (), (Assignment(name, leased, order_by(event.body) if order_by else None),))
            for event in events
        ]
        receipts = await self.store.accept(arrivals, deadline=0.0)
        for event, receipt in zip(events, receipts, strict=True):
            if leased and name not in receipt.held:
                delivery = Delivery(event, name, 0, receipt.leased_until, token=receipt.token)
                self.dispatcher.hand_over(delivery)
            else:
                self.dispatcher.delivery_stored(name, event.received)
        return events

    def deliveries(self, condition: str) -> int:
        """Count deliveries in the store."""
        (number,) = self.store.connection.execute(
            f"SELECT count(*) FROM deliveries WHERE {condition}"  # noqa: S608 - a condition of the test
        ).fetchone()
        return int(number)


def simulate(
    path: Path, destination: Destination, app: App, story: Callable[[World], Coroutine[Any, Any, T]]
) -> T:
    """Run a scenario to its end in virtual time."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        world = World(path, destination, app, loop)

        class StubClient:
            post = staticmethod(world.post)

        with (
            mock.patch.object(time, "monotonic", loop.time),
            mock.patch.object(forwarder, "open_client", return_value=StubClient()),
        ):
            await world.dispatcher.start()
            try:
                return await story(world)
            finally:
                await world.dispatcher.stop(grace=0.1)
                await world.store.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


#: The defaults of a destination without its own `batch`.
BATCH = BatchConfig()
