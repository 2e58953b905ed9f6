"""Gateways whose PostgreSQL is unresponsive or accepts no connections refuse requests at little cost."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from crash.partition import partition
from doubles.destination import status
from doubles.sender import ANSWERED_WITHIN, Provider
from gateways import CONFIG
from postgres_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from doubles.destination import ScriptedDestination
    from gateways import RunGateway, Running
    from postgres_server import Database, PostgresServer

pytestmark = pytest.mark.alone

#: How long gateways may take to accept again once the database answers (seconds).
BACK_WITHIN: Final = 5.0
CONNECTIONS: Final = 3
#: Two more for lists and purges, and one for notifications.
OTHER_CONNECTIONS: Final = 3
AT_ONCE: Final = 30


def config(url: str, destination: ScriptedDestination) -> str:
    store = f'store: {{url: "{url}", password: "env:STORE_PASSWORD", connections: {CONNECTIONS}}}\n'
    return CONFIG.format(url=destination.url) + store


def end_connections(postgres: PostgresServer, database: Database) -> None:
    postgres.sql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"  # noqa: S608
    )


async def refused_at_once(provider: Provider, running: Running) -> None:
    """Send many requests at once, none of which is accepted. None shares a commit with another."""

    async def send(pause: float) -> int:
        await asyncio.sleep(pause)
        return (await provider.send(running))[0]

    assert set(await asyncio.gather(*(send(number / 50) for number in range(AT_ONCE)))) == {503}


async def assert_alive(running: Running) -> None:
    async with running.client.get(running.operator_url + "/healthz") as answer:
        assert answer.status == 200


async def assert_back(provider: Provider, running: Running, destination: ScriptedDestination) -> None:
    """Check that it accepts soon, including the refused requests when they are sent again."""
    assert await provider.until_accepting(running) < BACK_WITHIN
    for refused in sorted(provider.refused):
        await provider.until_accepting(running, external_id=refused)
    assert provider.slowest < ANSWERED_WITHIN
    before = len(destination.requests)
    await provider.send(running)
    await destination.wait_for(before + 1)


@pytest.mark.case("O-04")
async def test_requests_get_503_while_the_database_accepts_no_more_connections(
    run_gateway: RunGateway, postgres: PostgresServer, database: Database, destination: ScriptedDestination
) -> None:
    """SQLSTATE 53300."""
    provider = Provider()
    async with run_gateway(config(database.url, destination), STORE_PASSWORD=PASSWORD) as running:
        await provider.until_accepting(running)
        postgres.sql(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
        end_connections(postgres, database)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await asyncpg.connect(database.url, password=PASSWORD)
        for _ in range(3):
            await refused_at_once(provider, running)
        await assert_alive(running)
        postgres.sql(f"ALTER DATABASE {database.name} CONNECTION LIMIT -1")
        await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
@pytest.mark.parametrize("table", ["dedupe_keys", "events", "deliveries"])
async def test_requests_get_503_while_all_connections_wait_for_a_lock(
    run_gateway: RunGateway,
    postgres: PostgresServer,
    database: Database,
    destination: ScriptedDestination,
    table: str,
) -> None:
    provider = Provider()
    async with run_gateway(config(database.url, destination), STORE_PASSWORD=PASSWORD) as running:
        await provider.until_accepting(running)
        other = await asyncpg.connect(database.url, password=PASSWORD)
        await other.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        for _ in range(3):
            await refused_at_once(provider, running)
        await assert_alive(running)
        question = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}'"  # noqa: S608
        # One of them holds the lock.
        assert int(postgres.sql(question)) <= CONNECTIONS + OTHER_CONNECTIONS + 1
        await other.close()
        await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
async def test_requests_get_503_while_the_primary_is_read_only(
    run_gateway: RunGateway, postgres: PostgresServer, database: Database, destination: ScriptedDestination
) -> None:
    """SQLSTATE 25006, on connections that could write before."""
    provider, setting = Provider(), "default_transaction_read_only"
    async with run_gateway(config(database.url, destination), STORE_PASSWORD=PASSWORD) as running:
        await provider.until_accepting(running)
        try:
            postgres.sql(f"ALTER SYSTEM SET {setting} = on", "SELECT pg_reload_conf()")
            async with provider.sending(running):
                await provider.until_refused(1)  # the reload takes a while
            for _ in range(3):
                await refused_at_once(provider, running)
            await assert_alive(running)
        finally:
            postgres.sql(f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
        await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
async def test_requests_get_503_while_the_network_drops_all_packets(
    run_gateway: RunGateway, postgres: PostgresServer, database: Database, destination: ScriptedDestination
) -> None:
    provider = Provider()
    async with partition(postgres.port) as line:
        url = database.url.replace(f":{postgres.port}", f":{line.port}")
        async with run_gateway(config(url, destination), STORE_PASSWORD=PASSWORD) as running:
            await asyncio.gather(*(provider.until_accepting(running) for _ in range(AT_ONCE)))
            await line.cut("drop")
            held = []
            for _ in range(7):
                await refused_at_once(provider, running)
                await assert_alive(running)
                held.append((len(asyncio.all_tasks()), descriptors()))
            # The last rounds have not added to what the first ones left open.
            for at_first, at_end in zip(*held[2:7:4], strict=True):
                assert at_end <= at_first + 10, held
            await line.heal()
            await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
async def test_a_primary_that_disappears_silently_is_replaced_by_another_host(
    run_gateway: RunGateway, postgres: PostgresServer, database: Database, destination: ScriptedDestination
) -> None:
    """Its connections stay open but get no answer. Few events arrive, and another host takes over."""
    provider = Provider()
    async with partition(postgres.port) as primary, partition(postgres.port) as successor:
        await successor.cut("refuse")
        url = database.url.replace(f":{postgres.port}", f":{primary.port},127.0.0.1:{successor.port}")
        async with run_gateway(config(url, destination), STORE_PASSWORD=PASSWORD) as running:
            await asyncio.gather(*(provider.until_accepting(running) for _ in range(AT_ONCE)))
            await primary.cut("drop")
            for _ in range(4):
                assert (await provider.send(running))[0] == 503
            await successor.heal()
            await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
async def test_requests_get_503_while_the_name_server_does_not_answer(
    run_gateway: RunGateway,
    postgres: PostgresServer,
    database: Database,
    destination: ScriptedDestination,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, answers = Provider(), threading.Event()
    answers.set()
    monkeypatch.setattr(socket, "getaddrinfo", resolving("db.example", answers))
    url = database.url.replace("127.0.0.1", "db.example")
    async with run_gateway(config(url, destination), STORE_PASSWORD=PASSWORD) as running:
        await provider.until_accepting(running)
        answers.clear()
        try:
            end_connections(postgres, database)
            for _ in range(3):
                await refused_at_once(provider, running)
            await assert_alive(running)
        finally:
            answers.set()
        await assert_back(provider, running, destination)


@pytest.mark.case("O-04")
@pytest.mark.parametrize("hours", [2, -2])
async def test_gateways_whose_clocks_differ_by_hours_share_a_database(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination, hours: int
) -> None:
    provider, text = Provider(), config(database.url, destination)

    def clock() -> float:
        return time.time() + hours * 3600

    destination.always(status(503))
    async with run_gateway(text, STORE_PASSWORD=PASSWORD, clock=clock) as running:
        _, said = await provider.send(running, "evt_first")
        await destination.wait_for(1)
    destination.always(status(200))
    before = len(destination.requests)
    async with run_gateway(text, STORE_PASSWORD=PASSWORD) as running:
        (code, again) = await provider.send(running, "evt_first")
        assert (code, again["status"], again["id"]) == (200, "duplicate", said["id"])
        await destination.wait_for(before + 1)


def descriptors() -> int:
    """Count the open files of this process."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


def resolving(name: str, answers: threading.Event) -> Callable[..., Any]:
    """Return a `getaddrinfo` that knows this name, and hangs while there are no answers."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != name:
            return real(host, *arguments, **options)
        answers.wait(20)
        return real("127.0.0.1", *arguments, **options)

    return getaddrinfo
