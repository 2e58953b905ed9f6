"""The stores of several gateways on one PostgreSQL. Each store alone is tested in tests/conformance."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from conformance.builders import NEVER, arrival, event, result
from gatehouse.errors import SchemaVersionError, StoreUnavailableError
from gatehouse.store.postgres import (
    PostgresSettings,
    PostgresStore,
    accepting,
    leasing,
    ordering,
)
from gatehouse.store.postgres.rows import short_key
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gatehouse.store.base import Arrival, Delivery, Receipt
    from postgres_server import Database, PostgresServer


#: The frequent statements of a gateway, with example parameters.
STATEMENTS: dict[str, tuple[object, ...]] = {
    accepting._KNOWN_KEYS: ([], [], [], 0),
    leasing._LEASE: ("billing", 0, 0, 0, 1, 0),
    leasing._NEXT_DUE: ("billing", 0, 0),
    leasing._RECORD: ([],) * 11,
    leasing._RECORD_WITH_ATTEMPTS: ([],) * 25,
    leasing._RELEASE: ([],) * 3,
    ordering._TAKEN: ([], []),
    ordering._FREE: ([], [], 0),
}


@asynccontextmanager
async def stores(database: Database, number: int) -> AsyncIterator[list[PostgresStore]]:
    """Open one store per gateway."""
    settings = PostgresSettings(database.url, database.password)
    opened = [await PostgresStore.open(settings) for _ in range(number)]
    try:
        yield opened
    finally:
        for store in opened:
            await store.close()


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database.url, password=database.password)
    try:
        yield connection
    finally:
        await connection.close()


def arriving(*keys: bytes | None, order: bytes | None = None, leased: bool = False) -> Arrival:
    now = round(time.time(), 3)
    return arrival(*keys, until=now + 3600, of=event(received=now), order=order, leased=leased)


async def until_accepted(store: PostgresStore, batch: Sequence[Arrival]) -> list[Receipt]:
    """Send until it is accepted, as a provider does that gets 503 from an overloaded machine."""
    while True:
        try:
            return await store.accept(batch, deadline=NEVER)
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


async def lease(store: PostgresStore, *, ahead: float = 0.0, limit: int = 500) -> list[Delivery]:
    """Lease what is due in this many seconds."""
    now = time.time() + ahead
    return await store.lease("billing", now=now, until=now + 30, limit=limit)


@pytest.mark.alone
async def test_64_connections_with_the_same_ids_store_each_event_once(
    database: Database, postgres: PostgresServer
) -> None:
    """D-05, over three gateways."""
    ids = [b"event-%d" % number for number in range(500)]
    chance = random.Random(5)  # noqa: S311 - the same each time

    async def send(store: PostgresStore) -> list[str]:
        """Send all of them in batches, in a random order."""
        mine = chance.sample(ids, len(ids))
        statuses: list[str] = []
        for start in range(0, len(mine), 50):
            batch = [arriving(each) for each in mine[start : start + 50]]
            receipts = await until_accepted(store, batch)
            statuses += [receipt.status for receipt in receipts]
        return statuses

    async with stores(database, 3) as opened, connected(database) as connection:
        answers = await asyncio.gather(*(send(opened[number % 3]) for number in range(64)))
        assert Counter(status for each in answers for status in each) == {
            "accepted": 500,
            "duplicate": 500 * 63,
        }
        for table in ("events", "dedupe_keys", "deliveries"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 500  # noqa: S608
    # There was no deadlock, which a second try would have hidden.
    assert postgres.sql(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database.name}'") == "0"  # noqa: S608


async def test_a_batch_whose_keys_another_gateway_has_just_stored_finds_them(database: Database) -> None:
    async with stores(database, 2) as opened:
        batches = [
            [arriving(b"%d" % number, b"x%d" % (number * 7 % 64)) for number in numbers]
            for numbers in (range(64), reversed(range(64)))
        ]
        both = await asyncio.gather(
            *(store.accept(batch, deadline=NEVER) for store, batch in zip(opened, batches, strict=True))
        )
    first, second = (Counter(receipt.status for receipt in receipts) for receipts in both)
    assert first["accepted"] + second["accepted"] == 64
    assert first["duplicate"] + second["duplicate"] == 64


@pytest.mark.case("D-09")
async def test_late_results_of_a_suspended_process_change_nothing(database: Database) -> None:
    async with stores(database, 2) as (away, there):
        await there.accept([arriving() for _ in range(10)], deadline=NEVER)
        old = await lease(away)
        new = await lease(there, ahead=31)
        assert {each.event.id for each in old} == {each.event.id for each in new}
        assert [each.attempts for each in new] == [1] * 10
        assert await away.record([result(each, "dead") for each in old]) == [False] * 10
        await away.release(old)
        assert await lease(there, ahead=32) == []
        assert await there.record([result(each) for each in new]) == [True] * 10
        assert await away.record([result(each, "pending") for each in old]) == [False] * 10
        assert await there.counts() == {}


async def test_gateways_never_share_a_delivery(database: Database) -> None:
    async with stores(database, 3) as opened:
        await opened[0].accept([arriving() for _ in range(300)], deadline=NEVER)
        found: list[str] = []

        async def work(store: PostgresStore) -> None:
            while leased := await lease(store, limit=7):
                found.extend(each.event.id for each in leased)
                await store.record([result(each) for each in leased])

        await asyncio.gather(*(work(store) for store in opened * 2))
        assert len(found) == len(set(found)) == 300
        assert await opened[0].counts() == {}


async def test_an_order_key_is_kept_across_gateways(database: Database) -> None:
    accepted: list[str] = []
    delivered: list[str] = []
    async with stores(database, 3) as opened:

        async def accept(store: PostgresStore) -> None:
            for _ in range(20):
                arrived = arriving(order=b"inv_1")
                await store.accept([arrived], deadline=NEVER)
                accepted.append(arrived.event.id)

        async def deliver(store: PostgresStore) -> None:
            while len(delivered) < 60:
                for delivery in await lease(store, ahead=1):
                    delivered.append(delivery.event.id)
                    assert await store.record([result(delivery)]) == [True]
                await asyncio.sleep(0.001)

        async with asyncio.timeout(60):
            await asyncio.gather(*map(accept, opened), *map(deliver, opened))
        assert sorted(accepted) == sorted(delivered)
        async with connected(database) as connection:
            rows = await connection.fetch("SELECT event_id FROM deliveries ORDER BY order_seq")
        assert delivered == [row[0] for row in rows]


async def test_of_concurrent_arrivals_one_is_active_and_the_others_are_held(database: Database) -> None:
    async with stores(database, 3) as opened:
        for number in range(40):
            order = b"%d" % number
            receipts = await asyncio.gather(
                *(store.accept([arriving(order=order)], deadline=NEVER) for store in opened)
            )
            assert sorted(receipt.held for (receipt,) in receipts) == [(), ("billing",), ("billing",)]


async def test_an_arrival_at_the_end_of_the_active_delivery_is_not_held_forever(database: Database) -> None:
    async with stores(database, 2) as (accepting_one, delivering_one):
        await accepting_one.accept([arriving(order=b"k")], deadline=NEVER)
        for _ in range(60):
            (delivery,) = await lease(delivering_one, ahead=1)
            await asyncio.gather(
                delivering_one.record([result(delivery)]),
                accepting_one.accept([arriving(order=b"k")], deadline=NEVER),
            )


async def test_other_gateways_are_notified_of_pauses_and_retries(database: Database) -> None:
    async with stores(database, 2) as (mine, other):
        heard: asyncio.Queue[str] = asyncio.Queue()
        other.watch(heard.put_nowait)
        await mine.accept([arriving()], deadline=NEVER)
        (delivery,) = await lease(mine)
        await mine.record([result(delivery, "dead")])
        async with asyncio.timeout(10):
            while heard.empty():  # it listens once the connection is open
                await mine.pause("billing", paused=True)
                await asyncio.sleep(0.01)
            assert await heard.get() == "billing"
            assert await other.paused() == {"billing"}
            await mine.retry(DeliveryQuery(), now=time.time() + 1, limit=10)
            while not await lease(other, ahead=2):
                assert await heard.get() == "billing"


async def test_five_gateways_that_start_at_once_migrate_once(empty_database: Database) -> None:
    settings = PostgresSettings(empty_database.url, empty_database.password)
    opened = await asyncio.gather(*(PostgresStore.open(settings) for _ in range(5)))
    for store in opened:
        assert await store.counts() == {}
        await store.close()


async def test_a_newer_schema_is_refused(database: Database) -> None:
    async with connected(database) as connection:
        await connection.execute("UPDATE gatehouse_schema SET version = 99")
    with pytest.raises(SchemaVersionError, match="99"):
        await PostgresStore.open(PostgresSettings(database.url, database.password))


async def test_times_are_compared_by_the_databases_clock(database: Database) -> None:
    """A gateway whose clock is an hour ahead leases nothing early, and others lease from it in time."""
    settings = PostgresSettings(database.url, database.password)

    def ahead() -> float:
        return time.time() + 3600

    hasty = await PostgresStore.open(settings, clock=ahead)
    async with stores(database, 1) as (punctual,):
        await punctual.accept([arriving()], deadline=NEVER)
        (delivery,) = await lease(punctual)
        assert await hasty.lease("billing", now=ahead(), until=ahead() + 30, limit=1) == []
        await punctual.record([result(delivery, "pending", due_at=time.time() + 60)])
        assert await hasty.lease("billing", now=ahead() + 59, until=ahead() + 90, limit=1) == []
        assert len(await hasty.lease("billing", now=ahead() + 61, until=ahead() + 90, limit=1)) == 1
    await hasty.close()


async def test_a_damaged_event_is_dead_and_frees_the_next_one(database: Database) -> None:
    async with stores(database, 1) as (store,), connected(database) as connection:
        first, second = arriving(order=b"k"), arriving(order=b"k")
        await store.accept([first, second, arriving()], deadline=NEVER)
        await connection.execute("UPDATE events SET body = 'x' WHERE id = $1", first.event.id)
        assert len(await lease(store)) == 1
        assert [each.event for each in await lease(store, ahead=1)] == [second.event]
        (row,) = (await store.deliveries(DeliveryQuery(status="dead"), limit=10)).items
        assert (row.event_id, row.last_reason, row.attempts) == (first.event.id, "corrupt", 0)


@pytest.mark.alone
async def test_a_batch_past_its_deadline_by_the_databases_clock_is_not_written(database: Database) -> None:
    """D-07, when the server was suspended."""
    async with stores(database, 1) as (store,), connected(database) as connection:
        await connection.execute(
            """
            CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE INSERT ON dedupe_keys FOR EACH ROW EXECUTE FUNCTION stand_still();
            """
        )
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.accept([arriving(b"k")], deadline=started + 0.2)
        assert time.monotonic() - started < 1
        await connection.execute("DROP TRIGGER slow ON dedupe_keys")
        (receipt,) = await store.accept([arriving(b"k")], deadline=NEVER)
        assert receipt.status == "accepted"


async def test_a_lease_updates_its_row_in_place(database: Database) -> None:
    """Leasing, releasing and leasing again write no index: they are HOT updates, except for full pages."""
    async with stores(database, 1) as (store,):
        await store.accept([arriving() for _ in range(200)], deadline=NEVER)
        for _ in range(3):
            await store.release(await lease(store, ahead=1))
    # The statistics of a connection appear when it has ended.
    updated = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'deliveries'"
    total, hot = 0, 0
    async with asyncio.timeout(20), connected(database) as connection:
        while total < 1200:
            await asyncio.sleep(0.05)
            total, hot = await connection.fetchrow(updated) or (0, 0)
    # If a page has no space for the new version, the row moves to another page.
    assert hot > total * 0.7


async def test_the_plans_of_hot_statements_read_no_whole_table(
    database: Database, postgres: PostgresServer
) -> None:
    """The plans are made while the tables are empty, as at the first start of a gateway."""
    postgres.sql("ANALYZE", database=database.name)
    async with stores(database, 1) as (store,), store._hot.use() as connection:
        for statement, given in STATEMENTS.items():
            prepared = await connection.prepare(statement)
            plan = str(await prepared.explain(*given))
            assert "Seq Scan" not in plan, statement
            assert "Hash Join" not in plan, statement


async def test_long_keys_are_distinguished_and_a_shortened_key_stays_the_same() -> None:
    long = b"k" * 5000
    kept = short_key(long + b"1")
    assert kept != short_key(long + b"2")
    assert short_key(kept) == kept, "order keys come back from the database, and are looked for there"
    assert short_key(b"short") == b"short"
