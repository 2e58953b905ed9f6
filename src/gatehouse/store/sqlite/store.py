"""The store in one SQLite file: durable as one disk is, for one process.

How it is put together: `file` holds the file and its connections, `writer` shares transactions, `accepting`,
`leasing`, `ordering`, `reviving` and `purging` are the statements of those transactions, `listing` is what
operators read, `rows` is how events look in them and `sound` how it is told that they still do.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.base import Retried
from gatehouse.store.deciding import keys_in
from gatehouse.store.sqlite import leasing, listing, ordering, pausing, placing, purging, reviving
from gatehouse.store.sqlite.accepting import Acceptor, known
from gatehouse.store.sqlite.connection import check_version, has_wal_reset_bug
from gatehouse.store.sqlite.file import SqliteFile
from gatehouse.store.sqlite.migrations import migrate
from gatehouse.store.sqlite.purging import Horizon
from gatehouse.store.sqlite.writer import Writer
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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

T = TypeVar("T")

#: Longer than two waits for a lock, shorter than anybody waits for `/readyz`.
_PING_TIMEOUT: Final = 0.6


class SqliteStore:
    """`Store` in one SQLite file. Made with `open`."""

    #: Of the SQLite library in use.
    sqlite_version: Final = sqlite3.sqlite_version
    #: Whether it is one of those that may corrupt a file when two connections write or checkpoint at one
    #: moment. Only one of ours does, but a person's sqlite3 shell or a backup tool could be the other.
    has_wal_reset_bug: Final = has_wal_reset_bug(sqlite3.sqlite_version_info)
    #: There is no other process: what is due is known here.
    shared: Final = False
    poll_every: Final = 30.0

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._acceptor = Acceptor(clock)
        self._file = SqliteFile(path, self._prepare)
        self._writer = Writer(self._file)
        self._recovered = False
        self._closed = False
        self._purge_cursor = ""

    @classmethod
    async def open(cls, path: Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the file, made when it is not there, and take over what a crash left leased.

        Raises `StoreInUseError` when another process has it, `SchemaVersionError` when a newer version wrote
        it, and `StoreError` when it can't be used.
        """
        check_version(sqlite3.sqlite_version_info)
        store = cls(path, clock)
        try:
            await store._file.writer()
        except BaseException:
            await store.close()
            raise
        return store

    def _prepare(self, connection: sqlite3.Connection) -> None:
        migrate(connection)
        # Only at start: when the connection is opened again later, the leases are our own.
        if not self._recovered:
            leasing.recover(connection)
            self._recovered = True
        self._acceptor.resume(connection)

    async def use_places(self, places: Callable[[], Places]) -> None:
        if await self._read(placing.may_be_any):
            self._acceptor.earlier = await self._write(partial(placing.add, places=places))

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
            return 0  # as mostly: nothing is written for that
        return await self._write(partial(ordering.free_held, destination=destination, limit=limit))

    async def next_due(self, destination: str) -> float | None:
        return await self._read(partial(leasing.next_due, destination=destination))

    async def known(self, source: str, keys: Sequence[DedupeKey | None], *, now: float) -> Receipt | None:
        work = partial(known, keys=keys_in(source, keys), now=now, earlier=self._acceptor.earlier)
        found = await self._read(work)
        # Its provider is told that the event is stored, and stops sending it.
        self._file.check()
        return found

    async def events(self, query: EventQuery, *, limit: int, cursor: str | None = None) -> Page[EventRow]:
        return await self._read(partial(listing.events, query=query, limit=limit, cursor=cursor))

    async def event(self, event_id: str) -> StoredEvent | None:
        return await self._read(partial(listing.event, event_id=event_id))

    async def deliveries(
        self, query: DeliveryQuery, *, limit: int, cursor: str | None = None
    ) -> Page[DeliveryRow]:
        return await self._read(partial(listing.deliveries, query=query, limit=limit, cursor=cursor))

    async def retry(self, query: DeliveryQuery, *, now: float, limit: int) -> Retried:
        # Looked for where it stalls no one, and in stretches: a rare filter may have to look at all the dead.
        rows: list[tuple[int, str]] = []
        found = reviving.Found(rows, -1, done=False)
        while not found.done and len(rows) < limit:
            left = limit - len(rows)
            work = partial(reviving.find, query=query, now=now, after=found.after, limit=left)
            found = await self._read(work)
            rows += found.rows
        destinations = await self._write(partial(reviving.revive, rows=rows, now=now)) if rows else {}
        return Retried(destinations, found.done)

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        work = partial(reviving.revive_sent_again, events=events, now=now, asked_before=asked_before)
        return await self._write(work)

    async def replay(self, event_id: str, destinations: Sequence[str], *, now: float) -> list[str] | None:
        work = partial(reviving.replay, event_id=event_id, destinations=destinations, now=now)
        return await self._write(work)

    async def pause(self, destination: str, *, paused: bool) -> None:
        await self._write(partial(pausing.pause, destination=destination, paused=paused))

    async def paused(self) -> frozenset[str]:
        return await self._read(pausing.paused)

    def watch(self, changed: Callable[[str], None]) -> None:
        """Do nothing: no other process has the file."""

    async def counts(self) -> dict[str, Counts]:
        return await self._read(leasing.counts)

    async def purge(self, *, now: float, events_before: float, dead_before: float, limit: int) -> Purged:
        horizon = Horizon(now, events_before, dead_before)
        work = partial(purging.purge, horizon=horizon, limit=limit, cursor=self._purge_cursor)
        step = await self._write(work)
        self._purge_cursor = step.cursor
        if step.purged.done and self._acceptor.earlier:
            self._acceptor.earlier = await self._write(placing.left)
        return step.purged

    async def ping(self) -> None:
        # An empty transaction takes the write lock and lets it go, without an fsync.
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                await self._write(_do_nothing)
        except TimeoutError as error:
            raise StoreUnavailableError("the store does not answer") from error

    def size(self) -> int:
        return self._file.size()

    @property
    def directory(self) -> Path:
        """Where the file is, whatever links lead to it."""
        return self._file.directory

    def look_at_files(self) -> None:
        """Raise `StoreError` unless the store's files are where they were opened, and held by this process.

        Each commit looks as well; this is for when there is none. It may be called from any thread.
        """
        self._file.look()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.drain()
        await self._file.close()

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, deadline: float = math.inf) -> T:
        self._check_open()
        return await self._writer.run(work, deadline=deadline)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await self._file.read(work)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")


def _do_nothing(_: sqlite3.Connection) -> None: ...
