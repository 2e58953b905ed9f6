"""The store on a PostgreSQL that is down, is a standby, or does not keep its commits."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from conformance.builders import NEVER, arrival, event, result
from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres.connection import urls_by_host
from gatehouse.store.records import DeliveryQuery, EventQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatehouse.store.base import Arrival
    from postgres_server import Database, PostgresServer

pytestmark = pytest.mark.alone

#: How long the store may take to recover (seconds).
BACK_WITHIN = 5.0


def settings(database: Database, *, allow_unsynced: bool = False, connections: int = 4) -> PostgresSettings:
    return PostgresSettings(database.url, database.password, connections, allow_unsynced)


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings(database))
    try:
        yield store
    finally:
        await store.close()


def arriving(*keys: bytes) -> Arrival:
    now = round(time.time(), 3)
    return arrival(*keys, until=now + 3600, of=event(received=now))


async def accept(store: PostgresStore, *arrivals: Arrival) -> None:
    await store.accept(arrivals, deadline=time.monotonic() + 0.8)


async def until_back(store: PostgresStore) -> float:
    """Accept until it works again. Returns how long that took."""
    started = time.monotonic()
    while True:
        try:
            await accept(store, arriving())
        except StoreUnavailableError:
            assert time.monotonic() - started < BACK_WITHIN
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - started


async def test_after_all_connections_were_ended_the_next_calls_work(
    database: Database, postgres: PostgresServer
) -> None:
    async with opened(database) as store:
        await asyncio.gather(*(accept(store, arriving()) for _ in range(10)))
        await store.counts()
        end = (
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database.name}'"  # noqa: S608
        )
        assert int(postgres.sql(end)) >= 2
        await until_back(store)
        assert (await store.counts())["billing"].pending == 11
        assert (await store.events(EventQuery(), limit=1)).items


async def test_no_acknowledged_event_is_lost_while_connections_are_ended(
    database: Database, postgres: PostgresServer
) -> None:
    accepted: list[str] = []
    stop = asyncio.Event()

    async def send(store: PostgresStore) -> None:
        while not stop.is_set():
            arrived = arriving()
            try:
                await accept(store, arrived)
            except StoreUnavailableError:
                await asyncio.sleep(0.01)
            else:
                accepted.append(arrived.event.id)

    end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database.name}'"  # noqa: S608
    async with opened(database) as store:
        senders = [asyncio.create_task(send(store)) for _ in range(8)]
        for _ in range(5):
            before = len(accepted)
            await asyncio.to_thread(postgres.sql, end)
            async with asyncio.timeout(BACK_WITHIN):
                while len(accepted) < before + 50:  # noqa: ASYNC110 - a list sends no notifications
                    await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*senders)
        stored = postgres.sql("SELECT id FROM events", database=database.name).split()
        assert set(accepted) <= set(stored)


@pytest.mark.case("O-04")
async def test_the_store_reconnects_to_a_restarted_server(
    database: Database, postgres: PostgresServer
) -> None:
    async with opened(database) as store:
        await accept(store, arriving())
        with postgres.stopped():
            for call in (
                lambda: accept(store, arriving()),
                store.ping,
                store.counts,
                lambda: store.deliveries(DeliveryQuery(), limit=1),
            ):
                started = time.monotonic()
                with pytest.raises(StoreUnavailableError):
                    await call()
                assert time.monotonic() - started < 1
        assert await until_back(store) < BACK_WITHIN
        (delivery, _) = await store.lease("billing", now=time.time() + 1, until=time.time() + 30, limit=5)
        assert await store.record([result(delivery)]) == [True]


@pytest.mark.case("O-04")
async def test_the_store_moves_from_a_read_only_server_to_one_that_accepts_writes(
    database: Database, postgres: PostgresServer
) -> None:
    """SQLSTATE 25006: the answer of a primary that has become a standby."""
    async with opened(database) as store:
        await accept(store, arriving())
        postgres.sql(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        await asyncio.to_thread(
            postgres.sql,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'",  # noqa: S608
        )
        with pytest.raises(StoreUnavailableError):
            await accept(store, arriving())
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await store.ping()
        postgres.sql(f"ALTER DATABASE {database.name} SET default_transaction_read_only = off")
        await until_back(store)
        await store.ping()


@pytest.mark.case("O-04")
async def test_connections_that_became_read_only_are_not_used_again(database: Database) -> None:
    async with opened(database) as store:
        async with store._hot.use() as one, store._hot.use() as another:
            for connection in (one, another):
                await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await accept(store, arriving())
        await accept(store, arriving())


async def test_the_host_that_accepts_writes_is_found_among_others(
    database: Database, postgres: PostgresServer
) -> None:
    host = f"127.0.0.1:{postgres.port}"
    assert urls_by_host("postgresql://u@a:1,b:2/d?x=1") == [
        "postgresql://u@a:1/d?x=1",
        "postgresql://u@b:2/d?x=1",
    ]
    several = PostgresSettings(database.url.replace(host, f"127.0.0.1:1,{host}"), database.password)
    store = await PostgresStore.open(several)
    await accept(store, arriving())
    await store.close()


async def test_opening_without_a_server_fails(database: Database, postgres: PostgresServer) -> None:
    gone = PostgresSettings(database.url.replace(f":{postgres.port}", ":1"), "the-password")
    with pytest.raises(StoreUnavailableError) as caught:
        await PostgresStore.open(gone)
    assert "the-password" not in f"{caught.value} {caught.value.hint} {gone!r}"


@pytest.mark.case("D-16")
@pytest.mark.parametrize("name", ["synchronous_commit"])
async def test_a_server_that_confirms_commits_before_they_are_on_disk_is_refused(
    database: Database, postgres: PostgresServer, name: str
) -> None:
    postgres.sql(f"ALTER DATABASE {database.name} SET {name} = off")
    with pytest.raises(StoreError, match=name) as caught:
        await PostgresStore.open(settings(database))
    assert not isinstance(caught.value, StoreUnavailableError)
    assert "allow_unsynced" in (caught.value.hint or "")
    store = await PostgresStore.open(settings(database, allow_unsynced=True))
    await accept(store, arriving())
    await store.close()


async def test_a_statement_that_takes_too_long_is_ended_before_the_deadline(
    database: Database, postgres: PostgresServer
) -> None:
    """A lock on the table stands for anything that delays the database."""
    async with opened(database) as store:
        blocker = await asyncpg.connect(postgres.url_for(database.name), password=database.password)
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(accept(store, arriving(b"%d" % number)) for number in range(20)), return_exceptions=True
        )
        assert time.monotonic() - started < 1.2
        assert all(isinstance(each, StoreUnavailableError) for each in outcomes)
        await transaction.rollback()
        await blocker.close()
        await until_back(store)
        receipts = await store.accept([arriving(b"%d" % number) for number in range(20)], deadline=NEVER)
        assert {each.status for each in receipts} == {"accepted"}


async def test_text_that_the_database_cannot_contain_is_not_found(database: Database) -> None:
    async with opened(database) as store:
        for text in ("\0", "\ud800"):
            assert await store.event(text) is None
            assert await store.replay(text, ["billing"], now=time.time()) is None
            assert (await store.events(EventQuery(source=text), limit=1)).items == ()
            assert (await store.deliveries(DeliveryQuery(destination=text), limit=1)).items == ()
            retried = await store.retry(DeliveryQuery(event_id=text), now=time.time(), limit=1)
            assert retried.destinations == {}
