"""The `Store` in a PostgreSQL database that several gateways share.

`pool` runs the calls of this class on connections, and `clock` is the time that the gateways share.
`accepting`, `leasing`, `ordering`, `replaying` and `purging` contain the statements, and `listing` what
operators read. `notifications` tells other gateways what has become due.
"""

from __future__ import annotations

import math
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import asyncpg

from gatehouse.errors import StoreUnavailableError
from gatehouse.store import audit as audit_entries
from gatehouse.store.accepting import resolved_keys
from gatehouse.store.base import Cutoffs
from gatehouse.store.postgres import (
    accepting,
    audit,
    following,
    leasing,
    legacy_keys,
    listing,
    ordering,
    purging,
    replaying,
)
from gatehouse.store.postgres.clock import DatabaseClock
from gatehouse.store.postgres.connection import (
    DRIVER_ERRORS,
    SLOW,
    confirm,
    is_statement_timeout,
    store_error,
)
from gatehouse.store.postgres.filters import can_match
from gatehouse.store.postgres.notifications import Notifications
from gatehouse.store.postgres.operation_methods import OperationMethods
from gatehouse.store.postgres.pool import FEW_ROWS, ConnectionPools, Pool
from gatehouse.store.postgres.rights import check_rights
from gatehouse.store.postgres.rows import is_storable
from gatehouse.store.postgres.schema import migrate
from gatehouse.store.records import Page, Retried
from gatehouse.store.searching import (
    GROUPS_TIME,
    PAGE_TIME,
    BodySearches,
    fill_groups,
    fill_page,
    steps_for,
    steps_for_groups,
)
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import Arrival, Counts, Delivery, Places, Purged, Receipt, Result, Which
    from gatehouse.store.postgres.connection import Connection, PostgresSettings
    from gatehouse.store.records import (
        AuditEntry,
        AuditQuery,
        DeadGroup,
        DeliveryQuery,
        DeliveryRow,
        EventFacts,
        EventQuery,
        EventRow,
        StoredEvent,
    )

T = TypeVar("T")

#: How often a lane polls for deliveries that other gateways made due (seconds).
_POLL_EVERY: Final = 1.0
#: How long a ping may take (seconds).
_PING_TIMEOUT: Final = 0.6
_IS_READ_ONLY: Final = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


class PostgresStore(OperationMethods):
    """The `Store` in a PostgreSQL database. Create it with `open`."""

    shared: Final = True
    poll_every: Final = _POLL_EVERY

    def __init__(self, settings: PostgresSettings, clock: Callable[[], float]) -> None:
        self._pools = ConnectionPools(settings)
        self._run = self._pools.run
        self._pool_for = self._pools.for_rows
        self._hot, self._slow = self._pools.hot, self._pools.slow
        self._clock = DatabaseClock(clock)
        # A random number identifies this gateway for as long as it runs.
        self._tokens = leasing.Tokens(secrets.randbits(leasing.PROCESS_BITS))
        self._floors = leasing.ScanFloors()
        self._commits_hang = False
        self._notifications = Notifications(partial(self._pools.connect, SLOW))
        self._purge_cursor = purging.PurgeCursor()
        self._legacy_keys = legacy_keys.PostgresLegacyKeys()
        self._body_searches = BodySearches()
        self._size = 0

    @classmethod
    async def open(cls, settings: PostgresSettings, *, clock: Callable[[], float] = time.time) -> Self:
        """Connect, and migrate the database to the schema of this version.

        Raises `StoreUnavailableError` if there is no server, `SchemaVersionError` if a newer version migrated
        the database, and `StoreError` if it can't be used as it is, or if the role lacks a right.
        """
        store = cls(settings, clock)
        try:
            connection = await store._pools.connect(SLOW)
            try:
                await migrate(connection)
                await check_rights(connection)
                await store._clock.measure(connection)
                store._size = await purging.size(connection)
            finally:
                connection.terminate()
        except DRIVER_ERRORS as error:
            raise store_error(error) from error
        return store

    async def use_legacy_places(self, places: Callable[[], Places]) -> None:
        self._legacy_keys = await self._run(self._slow, partial(legacy_keys.add_places, places=places))

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        if not arrivals:
            return []
        work = partial(
            accepting.accept,
            arrivals=arrivals,
            clock=self._clock,
            deadline=deadline,
            legacy_keys=self._legacy_keys,
        )
        left = deadline - time.monotonic()
        if left <= 0:
            raise StoreUnavailableError("the store is too slow")
        token = self._tokens.next()
        return await self._run(
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
        if self._floors.is_full_scan_due(destination):
            query = leasing.LeaseQuery(destination, leasing.BOTTOM, *asked)
            try:
                return await self._lease(self._slow, query)
            except StoreUnavailableError as error:
                if self._floors.of(destination) == leasing.BOTTOM or not is_statement_timeout(error):
                    raise
                self._floors.postpone_full_scan(destination)
        query = leasing.LeaseQuery(destination, self._floors.of(destination), *asked)
        return await self._lease(self._hot if limit <= FEW_ROWS else self._slow, query)

    async def _lease(self, pool: Pool, query: leasing.LeaseQuery) -> list[Delivery]:
        if self._commits_hang:
            # While commits hang, a lease would still be taken, and be lost until it runs out.
            await self._run(self._hot, confirm)
            self._commits_hang = False
        before_ms = min(self._clock.now(), query.now_ms)
        work = partial(leasing.lease, query=query, tokens=self._tokens, clock=self._clock)
        try:
            leased = await self._run(pool, work)
        except StoreUnavailableError as error:
            # The server itself ends a slow statement. It does not end a commit that waits for a standby.
            self._commits_hang = isinstance(error.__cause__, TimeoutError)
            raise
        self._floors.update(query, leased.lowest, before_ms)
        if leased.corrupt:
            await self._run(pool, partial(self._mark_corrupt, query.destination, leased.corrupt))
        return leased.deliveries

    async def _mark_corrupt(
        self, destination: str, corrupt: list[tuple[str, int]], connection: Connection
    ) -> None:
        now_ms = self._clock.now()
        await connection.execute(ordering.BEGIN)
        freed = await leasing.mark_corrupt(connection, destination, corrupt, now_ms=now_ms)
        await ordering.free(connection, {(destination, key) for key in freed}, now_ms=now_ms)
        await connection.execute("COMMIT")
        for event_id, _ in corrupt:
            get_logger().error("store.corrupt", event_id=event_id, destination=destination)

    async def record(self, results: Sequence[Result]) -> list[bool]:
        return await self._run(
            self._pool_for(results), partial(leasing.record, results=results, clock=self._clock)
        )

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._run(self._pool_for(deliveries), partial(leasing.release, deliveries=deliveries))

    async def free_held(self, destination: str, *, limit: int) -> int:
        now_ms = self._clock.now()
        work = partial(ordering.free_held, destination=destination, now_ms=now_ms, limit=limit)
        return await self._run(self._slow, work)

    async def next_due(self, destination: str) -> float | None:
        floor, now_ms = self._floors.of(destination), self._clock.now()
        pool = self._slow if floor == leasing.BOTTOM else self._hot
        due = await self._run(
            pool, partial(leasing.next_due, destination=destination, floor=floor, now_ms=now_ms)
        )
        return None if due is None else self._clock.from_database(due)

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        now_ms = self._clock.to_database(now)
        work = partial(
            accepting.find_duplicate,
            keys=resolved_keys(source, keys),
            now_ms=now_ms,
            legacy_keys=self._legacy_keys,
        )
        return await self._run(self._hot, work)

    async def events(
        self,
        query: EventQuery,
        *,
        limit: int,
        cursor: str | None = None,
        page_time: float = PAGE_TIME,
    ) -> Page[EventRow]:
        async def step(left: int, at: str | None, rows: int) -> Page[EventRow]:
            work = partial(listing.events, query=query, limit=left, cursor=at, scan_rows=rows)
            return await self._run(self._slow, work)

        async with self._body_searches.turn(query):
            return await fill_page(
                step, limit=limit, cursor=cursor, steps=steps_for(query), page_time=page_time
            )

    async def events_onward(
        self, query: EventQuery, *, destination: str | None = None, limit: int, cursor: str | None = None
    ) -> Page[EventFacts]:
        work = partial(
            following.events_onward, query=query, destination=destination, limit=limit, cursor=cursor
        )
        return await self._run(self._slow, work)

    async def event(self, event_id: str) -> StoredEvent | None:
        return await self._run(self._slow, partial(listing.event, event_id=event_id, clock=self._clock))

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        find = partial(listing.deliveries, query=query, clock=self._clock)

        async def step(left: int, at: str | None, rows: int) -> Page[DeliveryRow]:
            return await self._run(self._slow, partial(find, limit=left, cursor=at, scan_rows=rows))

        return await fill_page(step, limit=limit, cursor=cursor, steps=steps_for(query))

    async def dead_groups(
        self, query: DeliveryQuery, *, cursor: str | None = None, page_time: float = GROUPS_TIME
    ) -> Page[DeadGroup]:
        async def step(_: int, at: str | None, rows: int) -> Page[DeadGroup]:
            work = partial(listing.dead_groups, query=query, cursor=at, scan_rows=rows)
            return await self._run(self._slow, work)

        steps = steps_for_groups(query)
        return await fill_groups(step, cursor=cursor, steps=steps, page_time=page_time)

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        rows, is_done = await self._find_dead(query, now, limit)
        if not rows:
            return Retried({}, is_done)
        work = partial(replaying.revive, rows=rows, now=now, clock=self._clock)
        return Retried(await self._run(self._pool_for(rows), work), is_done)

    async def discard(self, query: DeliveryQuery, *, note: str, by: str, now: float, limit: int) -> Retried:
        rows, is_done = await self._find_dead(query, now, limit)
        if not rows:
            return Retried({}, is_done)
        work = partial(replaying.discard, rows=rows, note=note, by=by, now=now, clock=self._clock)
        return Retried(await self._run(self._pool_for(rows), work), is_done)

    async def _find_dead(
        self, query: DeliveryQuery, now: float, limit: int
    ) -> tuple[list[tuple[str, str]], bool]:
        """Find dead deliveries. Returns also whether there are no more."""
        if not can_match(query):
            return [], True
        # In bounded scans: a filter that matches few deliveries may have to scan all dead ones.
        rows: list[tuple[str, str]] = []
        found = replaying.DeadDeliveries(rows, "", done=False)
        now_ms = self._clock.to_database(now)
        while not found.done and len(rows) < limit:
            left = limit - len(rows)
            work = partial(replaying.find_dead, query=query, now_ms=now_ms, after=found.after, limit=left)
            found = await self._run(self._slow, work)
            rows += found.rows
        return rows, found.done

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        rows = [(event_id, name) for event_id, names in events.items() for name in dict.fromkeys(names)]
        work = partial(replaying.revive, rows=rows, now=now, clock=self._clock, asked_before=asked_before)
        return await self._run(self._pool_for(rows), work)

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        if not is_storable(event_id):
            return None
        return await self._run(
            self._hot,
            partial(
                replaying.replay, event_id=event_id, destinations=destinations, now=now, clock=self._clock
            ),
        )

    async def pause(self, destination: str, *, paused: bool) -> None:
        await self._run(self._hot, partial(replaying.pause, destination=destination, paused=paused))

    async def paused(self) -> frozenset[str]:
        return await self._run(self._slow, replaying.paused)

    async def counts(self) -> dict[str, Counts]:
        if self._clock.is_due:
            await self._run(self._slow, self._clock.measure)
        self._size = await self._run(self._slow, purging.size)
        return await self._run(self._slow, purging.counts)

    async def add_audit(self, entry: AuditEntry) -> None:
        await self._run(self._hot, partial(audit.add, entry=entry))

    async def audit(self, query: AuditQuery, *, limit: int, cursor: str | None = None) -> Page[AuditEntry]:
        if not is_storable(query.who):
            return Page((), None)
        before = audit_entries.before(cursor)
        return await self._run(self._slow, partial(audit.entries, query=query, limit=limit, before=before))

    async def purge(
        self,
        *,
        now: float,
        events_before: float,
        dead_before: float,
        limit: int,
        audit_before: float = 0.0,
    ) -> Purged:
        cutoffs = Cutoffs(now, events_before, dead_before, audit_before)
        work = partial(
            purging.purge, cutoffs=cutoffs, limit=limit, cursor=self._purge_cursor, clock=self._clock
        )
        step = await self._run(self._slow, work)
        self._purge_cursor = step.cursor
        if step.purged.done:
            self._size = await self._run(self._slow, purging.size)
        if step.purged.done and self._legacy_keys:
            self._legacy_keys = await self._run(self._slow, legacy_keys.remaining)
        return step.purged

    async def ping(self) -> None:
        await self._run(self._hot, _check_writable, timeout=_PING_TIMEOUT)

    def watch(self, changed: Callable[[str], None]) -> None:
        self._notifications.add(self._floors.reset)
        self._notifications.add(changed)

    def size(self) -> int:
        return self._size

    async def close(self) -> None:
        if self._pools.is_closed:
            return
        await self._pools.finish_calls()
        await self._notifications.close()
        await self._pools.close()


async def _check_writable(connection: Connection) -> None:
    if await connection.fetchval(_IS_READ_ONLY):
        raise asyncpg.ReadOnlySQLTransactionError
