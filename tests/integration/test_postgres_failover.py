"""Gateways on a primary with a synchronous standby continue when one of the two fails."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from conformance.builders import NEVER, arrival, event
from doubles.sender import ANSWERED_WITHIN, Provider
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gateways import CONFIG
from postgres_server import PASSWORD, PostgresServer
from postgres_standby import Standby, have_wait_for_standby

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doubles.destination import ScriptedDestination
    from gateways import RunGateway, Running
    from postgres_server import Database

#: How long gateways may take to accept again once a server accepts writes (seconds).
BACK_WITHIN: Final = 5.0


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[Standby]:
    with Standby(primary) as server:
        have_wait_for_standby(primary)
        yield server


@pytest.fixture
def database(primary: PostgresServer, standby: Standby) -> Database:
    assert standby.sql("SELECT pg_is_in_recovery()") == "t"
    return primary.create_database()


def url_of(database: Database, *servers: PostgresServer) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://{servers[0].user}@{hosts}/{database.name}"


def config(url: str, destination: ScriptedDestination) -> str:
    store = f'store: {{url: "{url}", password: "env:STORE_PASSWORD"}}\n'
    return CONFIG.format(url=destination.url) + store


async def health(running: Running, path: str) -> int:
    async with running.client.get(running.operator_url + path) as answer:
        return answer.status


async def until_delivered(destination: ScriptedDestination, expected: set[str]) -> None:
    """Wait until a destination has received these events, among others."""
    async with asyncio.timeout(20):
        while missing := expected - {json.loads(each.body)["id"] for each in destination.requests}:
            assert missing
            await asyncio.sleep(0.05)


def stored(server: PostgresServer, database: Database) -> list[str]:
    """Return the providers' ids of the events in a database."""
    return server.sql(
        "SELECT convert_from(external_id, 'UTF8') FROM events", database=database.name
    ).splitlines()


@pytest.mark.case("O-04")
async def test_a_failover_loses_no_accepted_event(
    run_gateway: RunGateway,
    primary: PostgresServer,
    standby: Standby,
    database: Database,
    destination: ScriptedDestination,
) -> None:
    provider = Provider()
    first, last = (url_of(database, *servers) for servers in ((primary, standby), (standby, primary)))
    async with (
        run_gateway(config(first, destination), STORE_PASSWORD=PASSWORD) as one,
        # This one tries the standby first, and skips it as long as it accepts no writes.
        run_gateway(config(last, destination), STORE_PASSWORD=PASSWORD) as other,
    ):
        async with provider.sending(one, other):
            await provider.until_accepted(40)
            assert not provider.refused
            await asyncio.to_thread(primary.stop, signal.SIGQUIT)
            await provider.until_refused(20)
            for gateway in (one, other):
                assert await health(gateway, "/healthz") == 200
                assert await health(gateway, "/readyz") == 503

            await asyncio.to_thread(standby.promote)
            took = await provider.until_accepting(one, other)
        assert took < BACK_WITHIN
        assert provider.slowest < ANSWERED_WITHIN
        for refused in sorted(provider.refused):
            assert (await provider.send(one, refused))[0] == 200
        assert sorted(stored(standby, database)) == sorted(provider.accepted)
        await until_delivered(destination, provider.accepted_at_once)


@pytest.mark.case("O-04")
async def test_without_the_standby_no_event_is_accepted(
    run_gateway: RunGateway,
    primary: PostgresServer,
    standby: Standby,
    database: Database,
    destination: ScriptedDestination,
) -> None:
    """A commit that waits for the standby is already on the primary, where a repetition finds it."""
    provider, ahead = Provider(), 0.0
    text = config(url_of(database, primary), destination)
    times = {"clock": lambda: time.time() + ahead, "elapsed": lambda: time.monotonic() + ahead}
    async with run_gateway(text, STORE_PASSWORD=PASSWORD, **times) as running:
        await provider.until_accepting(running)
        with standby.stopped():
            for _ in range(3):
                assert (await provider.send(running, "evt_again"))[0] == 503
            assert await health(running, "/healthz") == 200
        assert provider.slowest < ANSWERED_WITHIN

        await provider.until_accepting(running, external_id="evt_again")
        assert stored(primary, database).count("evt_again") == 1
        # No gateway got its delivery, which is due when the lease of the commit ends.
        ahead = 60.0
        await until_delivered(destination, {"evt_again"})


async def test_without_the_standby_no_lease_is_lost(
    primary: PostgresServer, standby: Standby, database: Database
) -> None:
    """A lease whose commit hangs is taken on the primary, and counts as an attempt when it runs out."""
    store = await PostgresStore.open(PostgresSettings(database.url, database.password))
    names = ["billing", "crm", "mail"]
    now = round(time.time(), 3)
    try:
        await store.accept([arrival(until=now + 60, of=event(received=now), to=names)], deadline=NEVER)
        for name in names:
            assert await store.lease(name, now=now - 60, until=now, limit=5) == []
        with standby.stopped():
            for name in names:
                with pytest.raises(StoreUnavailableError):
                    await store.lease(name, now=time.time() + 1, until=time.time() + 30, limit=5)
            question = "SELECT destination FROM deliveries WHERE leased_until_ms > 0"
            assert primary.sql(question, database=database.name) == "billing"
        for name in names[1:]:
            (delivery,) = await store.lease(name, now=time.time() + 1, until=time.time() + 30, limit=5)
            assert delivery.attempts == 0
    finally:
        await store.close()
