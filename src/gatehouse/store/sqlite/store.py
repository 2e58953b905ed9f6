"""The `Store` in one SQLite file, for one process. It is as durable as the disk.

`database` opens the file and its connections, and `writer` shares transactions. `accepting`, `leasing`,
`ordering`, `replaying` and `purging` contain the statements of those transactions, and `listing` what
operators read.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from gatehouse.errors import StoreUnavailableError
from gatehouse.store import audit as audit_entries
from gatehouse.store.accepting import resolved_keys
from gatehouse.store.base import Cutoffs
from gatehouse.store.records import Retried
from gatehouse.store.searching import (
    GROUPS_TIME,
    PAGE_TIME,
    BodySearches,
    fill_groups,
    fill_page,
    steps_for,
    steps_for_groups,
)
from gatehouse.store.sqlite import (
    audit,
    following,
    leasing,
    legacy_keys,
    listing,
    ordering,
    purging,
    replaying,
)
from gatehouse.store.sqlite.accepting import Acceptor, find_duplicate
from gatehouse.store.sqlite.connection import check_version, has_wal_reset_bug
from gatehouse.store.sqlite.database import SqliteDatabase
from gatehouse.store.sqlite.operation_methods import OperationMethods
from gatehouse.store.sqlite.schema import migrate
from gatehouse.store.sqlite.writer import Writer
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import Arrival, Counts, Delivery, Places, Purged, Receipt, Result, Which
    from gatehouse.store.records import (
        AuditEntry,
        AuditQuery,
        DeadGroup,
        DeliveryQuery,
        DeliveryRow,
        EventFacts,
        EventQuery,
        EventRow,
        Page,
        StoredEvent,
    )

T = TypeVar("T")

#: Longer than two waits for a lock, and shorter than the timeout of a client of `/readyz`.
_PING_TIMEOUT: Final = 0.6


class SqliteStore(OperationMethods):
    """The `Store` in one SQLite file. Create it with `open`."""

    #: The version of the SQLite library in use.
    sqlite_version: Final = sqlite3.sqlite_version
    #: Whether this version may corrupt a file when two connections write or checkpoint at the same moment.
    #: Only one connection of Gatehouse does so, but a sqlite3 shell or a backup tool could be the other one.
    has_wal_reset_bug: Final = has_wal_reset_bug(sqlite3.sqlite_version_info)
    #: No other process uses the file, so this one knows what is due.
    shared: Final = False
    poll_every: Final = 30.0

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._acceptor = Acceptor(clock)
        self._database = SqliteDatabase(path, self._prepare)
        self._writer = Writer(self._database)
        self._recovered = False
        self._closed = False
        self._purge_cursor = ""
        self._body_searches = BodySearches()

    @classmethod
    async def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the file, or create it, and take over the deliveries that a crash left leased.

        Raises `StoreInUseError` if another process uses the file, `SchemaVersionError` if a newer version
        wrote it, and `StoreError` if it can't be used.
        """
        check_version(sqlite3.sqlite_version_info)
        store = cls(path, clock)
        try:
            await store._database.writer()
        except BaseException:
            await store.close()
            raise
        return store

    def _prepare(self, connection: sqlite3.Connection) -> None:
        migrate(connection)
        # Only at the start: when the connection is opened again later, the leases are those of this process.
        if not self._recovered:
            leasing.recover(connection)
            self._recovered = True
        self._acceptor.resume(connection)

    async def use_legacy_places(self, places: Callable[[], Places]) -> None:
        if await self._read(legacy_keys.may_exist):
            self._acceptor.legacy_keys = await self._write(partial(legacy_keys.add_places, places=places))

    async def accept(self, arrivals: Sequence[Arrival], *, deadline: float) -> list[Receipt]:
        work = partial(self._acceptor.accept, arrivals=arrivals)
        return await self._write(work, deadline=deadline)

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
        work = partial(
            leasing.lease,
            destination=destination,
            now=now,
            until=until,
            limit=limit,
            which=which,
            other_than=other_than,
        )
        leased = await self._write(work)
        for each in leased.corrupt:
            get_logger().error("store.corrupt", event_id=each.event_id, destination=each.destination)
        return leased.deliveries

    async def record(self, results: Sequence[Result]) -> list[bool]:
        return await self._write(partial(leasing.record, results=results))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._write(partial(leasing.release, deliveries=deliveries))

    async def free_held(self, destination: str, *, limit: int) -> int:
        if not await self._read(partial(ordering.is_held, destination=destination)):
            return 0  # the usual case needs no write
        return await self._write(partial(ordering.free_held, destination=destination, limit=limit))

    async def next_due(self, destination: str) -> float | None:
        return await self._read(partial(leasing.next_due, destination=destination))

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        work = partial(
            find_duplicate,
            keys=resolved_keys(source, keys),
            now=now,
            legacy_keys=self._acceptor.legacy_keys,
        )
        found = await self._read(work)
        # The provider will be told that the event is stored, and will not send it again.
        self._database.check()
        return found

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
            return await self._read(work)

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
        return await self._read(work)

    async def event(self, event_id: str) -> StoredEvent | None:
        return await self._read(partial(listing.event, event_id=event_id))

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        async def step(left: int, at: str | None, rows: int) -> Page[DeliveryRow]:
            work = partial(listing.deliveries, query=query, limit=left, cursor=at, scan_rows=rows)
            return await self._read(work)

        return await fill_page(step, limit=limit, cursor=cursor, steps=steps_for(query))

    async def dead_groups(
        self, query: DeliveryQuery, *, cursor: str | None = None, page_time: float = GROUPS_TIME
    ) -> Page[DeadGroup]:
        async def step(_: int, at: str | None, rows: int) -> Page[DeadGroup]:
            return await self._read(partial(listing.dead_groups, query=query, cursor=at, scan_rows=rows))

        steps = steps_for_groups(query)
        return await fill_groups(step, cursor=cursor, steps=steps, page_time=page_time)

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        rows, is_done = await self._find_dead(query, now, limit)
        destinations = await self._write(partial(replaying.revive, rows=rows, now=now)) if rows else {}
        return Retried(destinations, is_done)

    async def discard(self, query: DeliveryQuery, *, note: str, by: str, now: float, limit: int) -> Retried:
        rows, is_done = await self._find_dead(query, now, limit)
        work = partial(replaying.discard, rows=rows, note=note, by=by, now=now)
        return Retried(await self._write(work) if rows else {}, is_done)

    async def _find_dead(
        self, query: DeliveryQuery, now: float, limit: int
    ) -> tuple[list[tuple[int, str]], bool]:
        """Find dead deliveries. Returns also whether there are no more."""
        # The search runs on the reading connection, in bounded scans: a filter that matches few deliveries
        # may have to scan all dead ones.
        rows: list[tuple[int, str]] = []
        found = replaying.DeadDeliveries(rows, -1, done=False)
        while not found.done and len(rows) < limit:
            left = limit - len(rows)
            work = partial(replaying.find_dead, query=query, now=now, after=found.after, limit=left)
            found = await self._read(work)
            rows += found.rows
        return rows, found.done

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        work = partial(replaying.revive_resent, events=events, now=now, asked_before=asked_before)
        return await self._write(work)

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        work = partial(replaying.replay, event_id=event_id, destinations=destinations, now=now)
        return await self._write(work)

    async def pause(self, destination: str, *, paused: bool) -> None:
        await self._write(partial(replaying.pause, destination=destination, paused=paused))

    async def paused(self) -> frozenset[str]:
        return await self._read(replaying.paused)

    def watch(self, changed: Callable[[str], None]) -> None:
        """Do nothing: no other process has the file."""

    async def counts(self) -> dict[str, Counts]:
        return await self._read(leasing.counts)

    async def add_audit(self, entry: AuditEntry) -> None:
        await self._write(partial(audit.add, entry=entry))

    async def audit(self, query: AuditQuery, *, limit: int, cursor: str | None = None) -> Page[AuditEntry]:
        before = audit_entries.before(cursor)
        return await self._read(partial(audit.entries, query=query, limit=limit, before=before))

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
        work = partial(purging.purge, cutoffs=cutoffs, limit=limit, cursor=self._purge_cursor)
        step = await self._write(work)
        self._purge_cursor = step.cursor
        if step.purged.done and self._acceptor.legacy_keys:
            self._acceptor.legacy_keys = await self._write(legacy_keys.remaining)
        return step.purged

    async def ping(self) -> None:
        # An empty transaction acquires the write lock and releases it, without an fsync.
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                await self._write(_do_nothing)
        except TimeoutError as error:
            raise StoreUnavailableError("the store does not answer") from error

    def size(self) -> int:
        return self._database.size()

    @property
    def directory(self) -> Path:
        """The directory of the real file, whatever links lead to it."""
        return self._database.directory

    def check_files(self) -> None:
        """Raise `StoreError` unless the files are where they were opened and this process has the lock.

        Each commit checks the files too; this is for times without commits. It can be called from any thread.
        """
        self._database.check_files_and_lock()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.drain()
        await self._database.close()

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, deadline: float = math.inf) -> T:
        self._check_open()
        return await self._writer.run(work, deadline=deadline)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await self._database.read(work)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")


def _do_nothing(_: sqlite3.Connection) -> None: ...
