"""Measures the cost of retention in PostgreSQL while events arrive, are delivered and are purged.

The program prints a table. It runs its own server, fills it with N events that have two dedupe keys and one
delivery each, and continues until all stored events have been replaced a few times. A simulated clock
advances with each event, so a week of retention passes in minutes. Autovacuum runs every two seconds instead
of every minute, which is still rare by the simulated clock. N/8 events without a purge alternate with N/8
events during a purge that removes twice as many, so both are measured at the same size. A slow result is not
a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.builders import NEVER, arrival, event, result
from gatehouse.store.base import Delivery
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from postgres_server import Database, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import Arrival

SHORT = 40_000
FULL = 200_000
BATCH = 64
STEP = 1000
BODY = 1000
#: The share of N that each half of a period has.
PART = 8
TABLES = ("events", "dedupe_keys", "deliveries")
#: Prevents checkpoints during the run, because their frequency affects the size of the write-ahead log.
SERVER = {
    "autovacuum_naptime": "2s",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "256MB",
}

SIZES = """
SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_dead_tup, autovacuum_count
FROM pg_stat_user_tables WHERE relname = ANY($1) ORDER BY relname
"""
INDEXES = """
SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes
WHERE pg_relation_size(indexrelid) > 1000000 ORDER BY indexrelname
"""
UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'deliveries'"
WRITTEN = "SELECT wal_bytes::bigint, wal_fpi, wal_records FROM pg_stat_wal"


class Clock:
    """A simulated clock that starts at the current time and advances with each event."""

    def __init__(self, number: int) -> None:
        self.began = time.time()
        self.events = 0
        #: N events a week.
        self.each = 7 * 86400.0 / number

    def __call__(self) -> float:
        return round(self.began + self.events * self.each, 3)


class Cost(NamedTuple):
    """The cost of a number of events."""

    events: int
    #: How long each `accept` of a batch took (seconds).
    accepts: list[float]
    wal_bytes: int
    full_pages: int
    purged: int
    seconds: float

    def row(self, name: str) -> str:
        ordered = sorted(self.accepts)
        median, p99 = statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.99)] * 1000
        wal, pages = self.wal_bytes / self.events, self.full_pages / self.events
        rate = self.purged / self.seconds
        return f"{name:16} {median:9.2f} {p99:9.2f} {wal:10.0f} {pages:9.3f} {rate:12.0f}"


COSTS = f"{'':16} {'median ms':>9} {'p99 ms':>9} {'WAL/event':>10} {'full pages':>9} {'purged rows/s':>13}"


class Churn:
    """Accepts, delivers and purges events."""

    def __init__(self, store: PostgresStore, watching: Watching, clock: Clock) -> None:
        self.store = store
        self.watching = watching
        self.clock = clock
        self.body = secrets.token_bytes(BODY)

    def arrivals(self) -> list[Arrival]:
        made = []
        for _ in range(BATCH):
            self.clock.events += 1
            now = self.clock()
            keys = b"evt_" + secrets.token_hex(12).encode(), secrets.token_hex(16).encode()
            made.append(arrival(*keys, until=now + 7 * 86400, of=event(self.body, received=now), leased=True))
        return made

    async def deliver(self, number: int) -> list[float]:
        """Accept events and record them as delivered. Returns how long each batch took to accept."""
        times = []
        for _ in range(max(1, number // BATCH)):
            arrivals = self.arrivals()
            started = time.perf_counter()
            receipts = await self.store.accept(arrivals, deadline=NEVER)
            times.append(time.perf_counter() - started)
            await self.store.record(
                [
                    result(Delivery(each.event, "billing", 0, receipt.leased_until, token=receipt.token))
                    for each, receipt in zip(arrivals, receipts, strict=True)
                ]
            )
        return times

    async def purge(self, among: list[int]) -> None:
        """Remove what has expired for as long as events arrive."""
        while True:
            now = self.clock()
            before = now - 7 * 86400
            purged = await self.store.purge(now=now, events_before=before, dead_before=before, limit=STEP)
            among[0] += purged.events * 2 + purged.keys
            if purged.done:
                await asyncio.sleep(0.2)

    async def cost(self, number: int, *, purging: bool) -> Cost:
        purged = [0]
        task = asyncio.create_task(self.purge(purged)) if purging else None
        before, started = await self.watching.written(), time.perf_counter()
        times = await self.deliver(number)
        seconds = time.perf_counter() - started
        after = await self.watching.written()
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return Cost(len(times) * BATCH, times, after[0] - before[0], after[1] - before[1], purged[0], seconds)


class Watching:
    """Reads the statistics of the server."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection

    async def written(self) -> Sequence[int]:
        """Return the bytes and the full-page images of the write-ahead log so far."""
        await asyncio.sleep(1.1)  # the server updates its statistics about once a second
        return tuple(await self.connection.fetchrow(WRITTEN) or ())

    async def print_sizes(self, passed: int) -> None:
        row = [f"{passed:>10,}"]
        for _, table, indexes, dead, vacuums in await self.connection.fetch(SIZES, TABLES):
            row.append(f"{table / 1e6:7.1f} {indexes / 1e6:7.1f} {dead:7} {vacuums:4}")
        print(" |".join(row), flush=True)


async def run(server: PostgresServer, database: Database, number: int, times: int) -> None:
    clock = Clock(number)
    store = await PostgresStore.open(PostgresSettings(database.url, database.password), clock=clock)
    connection = await asyncpg.connect(database.url, password=database.password)
    watching = Watching(connection)
    churn = Churn(store, watching, clock)
    names = " |".join(f"{name:^28}" for name in sorted(TABLES))
    columns = " |".join(
        [f"{'events':>10}", *[f"{'MB':>7} {'indexes':>7} {'dead':>7} {'vac.':>4}"] * len(TABLES)]
    )
    print(f"{'':10} |{names}\n{columns}")
    await churn.deliver(number)
    await watching.print_sizes(clock.events)
    without, with_purge = [], []
    for turn in range(1, times * PART // 2 + 1):
        without.append(await churn.cost(number // PART, purging=False))
        with_purge.append(await churn.cost(number // PART, purging=True))
        if turn % (PART // 2) == 0:
            await watching.print_sizes(clock.events)
    print(f"\n{COSTS}")
    print(sum_of(without).row("without a purge"))
    print(sum_of(with_purge).row("with a purge"))
    updated, hot = await connection.fetchrow(UPDATES) or (0, 0)
    print(f"\nupdates of deliveries: {updated:,}, {hot / max(1, updated):.1%} of them HOT")
    for name, size in await connection.fetch(INDEXES):
        print(f"{name:28} {size / 1e6:8.1f} MB")
    await connection.close()
    await store.close()


def sum_of(costs: Sequence[Cost]) -> Cost:
    parts = list(zip(*costs, strict=True))
    times = [each for part in parts[1] for each in part]
    return Cost(sum(parts[0]), times, *(sum(part) for part in parts[2:]))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help=f"keep {FULL:,} events instead of {SHORT:,}")
    parser.add_argument("--times", type=int, default=4, help="how many times all stored events are replaced")
    given = parser.parse_args()
    with PostgresServer() as server:
        server.restart(SERVER)
        database = server.create_database()
        await run(server, database, FULL if given.full else SHORT, given.times)


if __name__ == "__main__":
    asyncio.run(main())
