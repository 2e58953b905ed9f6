"""`Store` in a PostgreSQL that several gateways share."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import asyncpg

from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.base import Retried
from gatehouse.store.deciding import keys_in
from gatehouse.store.postgres import (
    accepting,
    leasing,
    listing,
    ordering,
    pausing,
    placing,
    purging,
    recording,
    reviving,
)
from gatehouse.store.postgres.clock import DatabaseClock
from gatehouse.store.postgres.confirming import confirm
from gatehouse.store.postgres.connecting import HOT, SLOW, Connector
from gatehouse.store.postgres.errors import COLLISIONS, DRIVER_ERRORS, store_error, took_too_long
from gatehouse.store.postgres.filters import is_possible
from gatehouse.store.postgres.hints import Hints
from gatehouse.store.postgres.migrations import migrate
from gatehouse.store.postgres.pool import Pool
from gatehouse.store.postgres.rows import is_storable
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import (
        Arrival,
        Counts,
        Delivery,
        DeliveryQuery,
        DeliveryRow,
        EventQuery,
        EventRow,
        Page,
        Places,
        Purged,
        Receipt,
        Result,
        StoredEvent,
        Which,
    )
    from gatehouse.store.postgres.connecting import Connection
    from gatehouse.store.postgres.settings import PostgresSettings

T = TypeVar("T")

#: How often a lane looks for what other gateways made due (seconds).
_POLL_EVERY: Final = 1.0
#: For lists, counts and purges.
_SLOW_CONNECTIONS: Final = 2
#: The most rows that a statement of the hot connections is sure to be done with in time.
_FEW: Final = 512
#: How long one call may take (seconds).
_HOT_TIMEOUT: Final = 2.0
_SLOW_TIMEOUT: Final = 20.0
_PING_TIMEOUT: Final = 0.6
_TRIES: Final = 5
_IS_READ_ONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


class PostgresStore:
    """`Store` in one PostgreSQL database. Made with `open`."""

    shared: Final = True
    poll_every: Final = _POLL_EVERY

    def __init__(self, settings: PostgresSettings, clock: Callable[[], float]) -> None:
        connector = Connector(settings)
        self._connect = connector.connect
        self._hot = Pool(partial(connector.connect, HOT), size=settings.connections)
        self._slow = Pool(partial(connector.connect, SLOW), size=_SLOW_CONNECTIONS)
        self._clock = DatabaseClock(clock)
        # Which of the gateways this is, for as long as it runs.
        self._tokens = leasing.Tokens(secrets.randbits(leasing.PROCESS_BITS))
        self._floors = leasing.Floors()
        self._commits_hang = False
        self._hints = Hints(partial(connector.connect, SLOW))
        self._purge_place = purging.Place()
        self._earlier = placing.EarlierKeysHere()
        self._size = 0
        self._closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    async def open(cls, settings: PostgresSettings, *, clock: Callable[[], float] = time.time) -> Self:
        """Connect, and bring the database to the schema of this version.

        Raises `StoreUnavailableError` when there is no server, `SchemaVersionError` when a newer version
        wrote to it, and `StoreError` when it can't be used as it is.
        """
        store = cls(settings, clock)
        try:
            connection = await store._connect(SLOW)
            try:
                await migrate(connection)
                await store._clock.measure(connection)
                store._size = await purging.size(connection)
            finally:
                connection.terminate()
        except DRIVER_ERRORS as error:
            raise store_error(error) from error
        return store

    async def use_places(self, places: Callable[[], Places]) -> None:
        self._earlier = await self._on(self._slow, partial(placing.add, places=places))

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        if not arrivals:
            return []
        work = partial(
            accepting.accept, arrivals=arrivals, clock=self._clock, deadline=deadline, earlier=self._earlier
        )
        left = deadline - time.monotonic()
        if left <= 0:
            raise StoreUnavailableError("the store is too slow")
        token = self._tokens.next()
        return await self._on(
            self._pool_for(arrivals), partial(work, token=token), timeout=None if left == math.inf else left
        )

    async def lease(
        self,
        destination: str,
        *,
        now: float,
        until: float,
        limit: int,
        which: Which = "due",
        other_than: str | None = None,
    ) -> list[Delivery]:
        times = self._clock.to_database(now), self._clock.to_database(until)
        asked = (*times, limit, which, other_than)
        if self._floors.is_full_look_due(destination):
            look = leasing.Look(destination, leasing.BOTTOM, *asked)
            try:
                return await self._lease(self._slow, look)
            except StoreUnavailableError as error:
                if self._floors.of(destination) == leasing.BOTTOM or not took_too_long(error):
                    raise
                self._floors.put_off(destination)
        look = leasing.Look(destination, self._floors.of(destination), *asked)
        return await self._lease(self._hot if limit <= _FEW else self._slow, look)

    async def _lease(self, pool: Pool, look: leasing.Look) -> list[Delivery]:
        if self._commits_hang:
            # A lease would be taken all the same, and be nobody's until it runs out.
            await self._on(self._hot, confirm)
            self._commits_hang = False
        before_ms = min(self._clock.now(), look.now_ms)
        work = partial(leasing.lease, look=look, tokens=self._tokens, clock=self._clock)
        try:
            leased = await self._on(pool, work)
        except StoreUnavailableError as error:
            # The server ends what takes it long itself. It does not end a commit that waits for a standby.
            self._commits_hang = isinstance(error.__cause__, TimeoutError)
            raise
        self._floors.found(look, leased.lowest, before_ms)
        if leased.corrupt:
            await self._on(pool, partial(self._bury, look.destination, leased.corrupt))
        return leased.deliveries

    async def _bury(self, destination: str, corrupt: list[tuple[str, int]], connection: Connection) -> None:
        now_ms = self._clock.now()
        await connection.execute(ordering.BEGIN)
        freed = await leasing.bury(connection, destination, corrupt, now_ms=now_ms)
        await ordering.free(connection, {(destination, key) for key in freed}, now_ms=now_ms)
        await connection.execute("COMMIT")
        for event_id, _ in corrupt:
            get_logger().error("store.corrupt", event_id=event_id, destination=destination)

    async def record(self, results: Sequence[Result]) -> list[bool]:
        return await self._on(
            self._pool_for(results), partial(recording.record, results=results, clock=self._clock)
        )

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._on(self._pool_for(deliveries), partial(recording.release, deliveries=deliveries))

    async def free_held(self, destination: str, *, limit: int) -> int:
        now_ms = self._clock.now()
        work = partial(ordering.free_held, destination=destination, now_ms=now_ms, limit=limit)
        return await self._on(self._slow, work)

    async def next_due(self, destination: str) -> float | None:
        floor, now_ms = self._floors.of(destination), self._clock.now()
        pool = self._slow if floor == leasing.BOTTOM else self._hot
        due = await self._on(
            pool, partial(leasing.next_due, destination=destination, floor=floor, now_ms=now_ms)
        )
        return None if due is None else self._clock.from_database(due)

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        now_ms = self._clock.to_database(now)
        work = partial(accepting.known, keys=keys_in(source, keys), now_ms=now_ms, earlier=self._earlier)
        return await self._on(self._hot, work)

    async def events(self, query: EventQuery, *, limit: int, cursor: str | None = None) -> Page[EventRow]:
        return await self._on(self._slow, partial(listing.events, query=query, limit=limit, cursor=cursor))

    async def event(self, event_id: str) -> StoredEvent | None:
        return await self._on(self._slow, partial(listing.event, event_id=event_id, clock=self._clock))

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        work = partial(listing.deliveries, query=query, limit=limit, cursor=cursor, clock=self._clock)
        return await self._on(self._slow, work)

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        if not is_possible(query):
            return Retried({}, done=True)
        # In stretches: a rare filter may have to look at all the dead.
        rows: list[tuple[str, str]] = []
        found = reviving.Found(rows, "", done=False)
        now_ms = self._clock.to_database(now)
        while not found.done and len(rows) < limit:
            left = limit - len(rows)
            work = partial(reviving.find, query=query, now_ms=now_ms, after=found.after, limit=left)
            found = await self._on(self._slow, work)
            rows += found.rows
        if not rows:
            return Retried({}, found.done)
        revived = await self._on(
            self._pool_for(rows), partial(reviving.revive, rows=rows, now=now, clock=self._clock)
        )
        return Retried(revived, found.done)

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        rows = [(event_id, name) for event_id, names in events.items() for name in dict.fromkeys(names)]
        work = partial(reviving.revive, rows=rows, now=now, clock=self._clock, asked_before=asked_before)
        return await self._on(self._pool_for(rows), work)

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        if not is_storable(event_id):
            return None
        return await self._on(
            self._hot,
            partial(
                reviving.replay, event_id=event_id, destinations=destinations, now=now, clock=self._clock
            ),
        )

    async def pause(self, destination: str, *, paused: bool) -> None:
        await self._on(self._hot, partial(pausing.pause, destination=destination, paused=paused))

    async def paused(self) -> frozenset[str]:
        return await self._on(self._slow, pausing.paused)

    async def counts(self) -> dict[str, Counts]:
        if self._clock.is_due:
            await self._on(self._slow, self._clock.measure)
        self._size = await self._on(self._slow, purging.size)
        return await self._on(self._slow, purging.counts)

    async def purge(self, *, now: float, events_before: float, dead_before: float, limit: int) -> Purged:
        horizon = purging.Horizon(now, events_before, dead_before)
        work = partial(
            purging.purge, horizon=horizon, limit=limit, place=self._purge_place, clock=self._clock
        )
        step = await self._on(self._slow, work)
        self._purge_place = step.place
        if step.purged.done:
            self._size = await self._on(self._slow, purging.size)
        if step.purged.done and self._earlier:
            self._earlier = await self._on(self._slow, placing.left)
        return step.purged

    async def ping(self) -> None:
        await self._on(self._hot, _ask_if_writable, timeout=_PING_TIMEOUT)

    def watch(self, changed: Callable[[str], None]) -> None:
        self._hints.add(self._floors.forget)
        self._hints.add(changed)

    def size(self) -> int:
        return self._size

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        await self._hints.close()
        await self._hot.close()
        await self._slow.close()

    def _pool_for(self, rows: Sequence[object]) -> Pool:
        return self._hot if len(rows) <= _FEW else self._slow

    async def _on(
        self,
        pool: Pool,
        work: Callable[[Connection], Awaitable[T]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - of several steps
    ) -> T:
        """Run work on a connection. All that can go wrong there is a `StoreError`."""
        most = timeout or (_HOT_TIMEOUT if pool is self._hot else _SLOW_TIMEOUT)
        with self._call():
            try:
                async with asyncio.timeout(most):
                    return await _until_alone(pool, work)
            except TimeoutError as error:
                raise store_error(error) from error

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Count who is at it: `close` lets them finish."""
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()


async def _until_alone(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run work, again when it collided with another gateway's."""
    for tries_left in reversed(range(_TRIES)):
        try:
            async with pool.use() as connection:
                return await work(connection)
        except StoreError as error:
            if not tries_left or not isinstance(error.__cause__, COLLISIONS):
                raise
    raise AssertionError  # the last try returned or raised


async def _ask_if_writable(connection: Connection) -> None:
    if await connection.fetchval(_IS_READ_ONLY):
        raise asyncpg.ReadOnlySQLTransactionError
