"""Measures how long leasing due deliveries takes in PostgreSQL, with few or many finished rows.

The program prints a table. It runs its own server, which always contains 100,000 pending deliveries: each
round leases 64, records them as delivered and accepts 64 new ones. In the rows "open", another transaction of
the database stays open, so vacuum removes no finished rows. With `--no-floor`, each search starts at the
bottom of the index, as it would without the store's lower bounds. A slow result is not a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.builders import NEVER, arrival, event, result
from gatehouse.store.postgres import PostgresSettings, PostgresStore, leasing
from postgres_server import Database, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable

PENDING = 100_000
FINISHED = 1_000_000
BATCH = 64

#: Rows as the store writes them. The ids of finished deliveries sort before those of pending deliveries.
FILL = """
INSERT INTO events (id, source, path, provider, external_id, type, time, received_ms, headers, data_is_json,
  digest, checksum, body)
SELECT lpad(n::text, 26, '0'), 'mandato', '/', 'mandato', 'evt', 'invoice.accepted', '',
  (extract(epoch FROM now()) * 1000)::bigint - {number} + n, '[]', 0, '', 0, repeat('x', 800)::bytea
FROM generate_series(1, {number}) AS n
"""
FILL_DELIVERIES = """
INSERT INTO deliveries (event_id, destination, status, attempts, received_ms, due_ms, place, leased_until_ms,
  token, updated_ms)
SELECT id, 'billing', 'pending', 0, received_ms, received_ms, 0, 0, 0, received_ms FROM events
WHERE id NOT IN (SELECT event_id FROM deliveries)
"""
FINISH = "UPDATE deliveries SET status = 'delivered', attempts = 1, due_ms = NULL"


class Claims(NamedTuple):
    """How long the leases of one period took (seconds)."""

    name: str
    times: list[float]
    #: The number of database pages that one lease reads at the end of the period.
    pages: int

    def row(self) -> str:
        ordered = sorted(self.times)
        p99 = ordered[int(len(ordered) * 0.99)] * 1000
        median = statistics.median(ordered) * 1000
        number = len(ordered)
        longest = ordered[-1] * 1000
        times = f"{median:10.2f} {p99:10.2f} {longest:10.2f}"
        return f"{self.name:24} {number:8} {number * BATCH:10} {times} {self.pages:8}"


async def claim(store: PostgresStore, while_: Callable[[int], bool]) -> list[float]:
    """Lease, record and accept for as long as `while_` returns true. Return the duration of each lease."""
    times: list[float] = []
    while while_(len(times)):
        now = time.time()
        started = time.perf_counter()
        leased = await store.lease("billing", now=now, until=now + 30, limit=BATCH)
        times.append(time.perf_counter() - started)
        await store.record([result(each, at=now) for each in leased])
        arrivals = [arrival(of=event(received=now)) for _ in range(BATCH)]
        await store.accept(arrivals, deadline=NEVER)
    return times


async def pages(store: PostgresStore) -> int:
    """Count the pages that a lease reads. This number does not depend on other load on the machine."""
    now_ms = store._clock.now()
    given = ("billing", store._floors.of("billing"), now_ms, now_ms + 30_000, BATCH, 0, 0)
    async with store._slow.use() as connection:
        await connection.execute("BEGIN")
        found = await connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_with_values(leasing._LEASE, given)}"
        )
        await connection.execute("ROLLBACK")
    plan = json.loads(found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _with_values(statement: str, given: tuple[object, ...]) -> str:
    for number, value in enumerate(given, 1):
        statement = statement.replace(f"${number}", f"'{value}'" if isinstance(value, str) else f"({value})")
    return statement


async def fill(database: Database, finished: int) -> None:
    """Insert the finished deliveries with SQL, and let the store accept the pending ones."""
    connection = await asyncpg.connect(database.url, password=database.password)
    if finished:
        await connection.execute(FILL.format(number=finished), timeout=600)
        await connection.execute(FILL_DELIVERIES, timeout=600)
        await connection.execute(FINISH, timeout=600)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.close()
    store = await opened(database)
    for _ in range(PENDING // 500):
        arrivals = [arrival(of=event(received=time.time())) for _ in range(500)]
        await store.accept(arrivals, deadline=NEVER)
    await store.close()


async def opened(database: Database) -> PostgresStore:
    return await PostgresStore.open(PostgresSettings(database.url, database.password))


async def measure(server: PostgresServer, finished: int, rounds: int) -> tuple[Database, Claims]:
    database = server.create_database()
    await (await opened(database)).close()
    await fill(database, finished)
    store = await opened(database)
    times = await claim(store, lambda number: number < rounds)
    claims = Claims(f"{finished:,} finished", times, await pages(store))
    await store.close()
    return database, claims


async def measure_open(database: Database, seconds: float) -> list[Claims]:
    """Keep a transaction open, and measure in six periods until it ends."""
    blocker = await asyncpg.connect(database.url, password=database.password)
    transaction = blocker.transaction(isolation="repeatable_read")
    await transaction.start()
    await blocker.fetchval("SELECT count(*) FROM deliveries WHERE event_id = ''")
    store = await opened(database)
    stretches = []
    began = time.monotonic()
    step = seconds / 6
    for number in range(6):
        until = began + (number + 1) * step
        times = await claim(store, lambda _, until=until: time.monotonic() < until)  # type: ignore[misc]
        name = f"open for {number * step:.0f} to {(number + 1) * step:.0f} s"
        stretches.append(Claims(name, times, await pages(store)))
    await store.close()
    await transaction.rollback()
    await blocker.close()
    return stretches


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=150.0, help="how long a transaction stays open")
    parser.add_argument(
        "--rounds", type=int, default=500, help="how many leases to measure without an open transaction"
    )
    parser.add_argument(
        "--no-floor", action="store_true", help="start each search at the bottom of the index"
    )
    given = parser.parse_args()
    if given.no_floor:
        leasing.ScanFloors.of = lambda *_: leasing.BOTTOM  # type: ignore[method-assign]
    print(
        f"{'':24} {'leases':>8} {'finished':>10} {'median ms':>10} {'p99 ms':>10} {'max ms':>10} {'pages':>8}"
    )
    with PostgresServer() as server:
        for finished in (0, FINISHED):
            database, claims = await measure(server, finished, given.rounds)
            print(claims.row(), flush=True)
        for claims in await measure_open(database, given.seconds):
            print(claims.row(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
