"""Gateways with a real PostgreSQL store accept and forward events, and survive failures of the server."""

from __future__ import annotations

import asyncio
import io
import json
import math
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from doubles.keys import tls_server
from doubles.postgres_tls import TlsInFront
from gatehouse.errors import StoreError
from gateways import CONFIG, RunGateway, Running
from postgres_server import PASSWORD, Database, PostgresServer

DELIVERED = ("gatehouse_deliveries_total", "app", "delivered")


def config(url: str, destination: ScriptedDestination, **keys: str) -> str:
    store = {"url": f'"{url}"', "password": "env:STORE_PASSWORD"} | keys
    listed = ", ".join(f"{key}: {value}" for key, value in store.items())
    return CONFIG.format(url=destination.url) + f"store: {{{listed}}}\n"


@pytest.fixture
async def running(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination
) -> AsyncIterator[Running]:
    async with run_gateway(config(database.url, destination), STORE_PASSWORD=PASSWORD) as gateway:
        yield gateway


async def send(running: Running, number: int) -> tuple[int, Any]:
    body = providers.body(id=f"evt_{number}", type="sale.created")
    return await running.send("mando", body, providers.mando(body))


def lines(logged: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, logged.getvalue().splitlines()) if line["event"] == event]


async def test_events_are_accepted_once_and_forwarded(
    running: Running, destination: ScriptedDestination, database: Database, logged: io.StringIO
) -> None:
    answers = [await send(running, number) for number in (1, 2, 1)]
    await destination.wait_for(2)
    await running.until(DELIVERED, 2)

    assert [(status, answer["status"]) for status, answer in answers] == [
        (200, "accepted"),
        (200, "accepted"),
        (200, "duplicate"),
    ]
    assert answers[2][1]["id"] == answers[0][1]["id"]
    assert len(destination.requests) == 2
    assert lines(logged, "store.opened")[0]["url"] == database.url
    assert lines(logged, "gateway.started")[0]["store"] == database.url
    assert PASSWORD not in logged.getvalue()


async def test_the_free_space_of_a_remote_disk_is_unknown(running: Running) -> None:
    assert math.isnan((await running.metrics())["gatehouse_store_free_bytes",])


async def test_two_gateways_on_one_database_share_their_dedupe_keys(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination
) -> None:
    text = config(database.url, destination)
    async with (
        run_gateway(text, STORE_PASSWORD=PASSWORD) as one,
        run_gateway(text, STORE_PASSWORD=PASSWORD) as other,
    ):
        first = [await send(gateway, number) for number, gateway in enumerate((one, other))]
        again = [await send(gateway, number) for number, gateway in enumerate((other, one))]
        await one.until(DELIVERED, 1)
        await other.until(DELIVERED, 1)

        assert [answer["status"] for _, answer in first] == ["accepted", "accepted"]
        assert [answer["status"] for _, answer in again] == ["duplicate", "duplicate"]
        assert [answer["id"] for _, answer in again] == [answer["id"] for _, answer in first]
        assert len(destination.requests) == 2


async def test_simultaneous_requests_with_one_event_to_two_gateways_are_one_event(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination
) -> None:
    text = config(database.url, destination)
    async with (
        run_gateway(text, STORE_PASSWORD=PASSWORD) as one,
        run_gateway(text, STORE_PASSWORD=PASSWORD) as other,
    ):
        sent = [send(gateway, number) for number in range(10) for gateway in (one, other) for _ in range(3)]
        answers = [answer for status, answer in await asyncio.gather(*sent) if status == 200]

        assert len(answers) == 60
        assert sum(answer["status"] == "accepted" for answer in answers) == 10
        await destination.wait_for(10)
        delivered = [(await gateway.metrics()).get(DELIVERED, 0) for gateway in (one, other)]
        assert len(destination.requests) == 10, delivered


async def health(running: Running, path: str) -> int:
    async with running.client.get(running.operator_url + path) as answer:
        return answer.status


@pytest.mark.alone
async def test_requests_get_503_soon_without_the_server_and_200_after_its_return(
    running: Running, postgres: PostgresServer, destination: ScriptedDestination
) -> None:
    assert (await send(running, 1))[0] == 200
    await destination.wait_for(1)
    with postgres.stopped():
        for number in range(2, 7):
            await assert_refused_soon(running, number)
        assert await health(running, "/healthz") == 200
        assert await health(running, "/readyz") == 503

    async with asyncio.timeout(5):
        while (await send(running, 7))[0] != 200:  # noqa: ASYNC110 - as a provider retries
            await asyncio.sleep(0.1)
    await destination.wait_for(2)
    assert await health(running, "/readyz") == 200


async def assert_refused_soon(running: Running, number: int) -> None:
    body = providers.body(id=f"evt_{number}", type="sale.created")
    url, began = f"{running.url}/webhooks/mando", time.monotonic()
    async with running.client.post(url, data=io.BytesIO(body), headers=providers.mando(body)) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert time.monotonic() - began < 1


async def start(run_gateway: RunGateway, text: str, password: str = PASSWORD) -> None:
    """Start a gateway, and stop it."""
    async with run_gateway(text, STORE_PASSWORD=password):
        pass


async def test_a_wrong_password_is_reported_without_its_value(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    with pytest.raises(StoreError, match='password authentication failed for user "gatehouse"') as caught:
        await start(run_gateway, config(database.url, destination), "not-the-password")

    assert "not-the-password" not in f"{caught.value} {caught.value.hint} {logged.getvalue()}"


async def test_without_its_password_a_gateway_does_not_start(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination
) -> None:
    text = config(database.url, destination, password="file:nowhere")

    with pytest.raises(StoreError, match=r"^store\.password: file:nowhere can't be read: No such file"):
        await start(run_gateway, text)


async def test_without_a_server_a_gateway_does_not_start(
    run_gateway: RunGateway, postgres: PostgresServer, database: Database, destination: ScriptedDestination
) -> None:
    with postgres.stopped(), pytest.raises(StoreError, match="can't be reached"):
        await start(run_gateway, config(database.url, destination))


@pytest.mark.case("D-16")
@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync"])
async def test_a_server_that_confirms_unsynced_commits_must_be_allowed_explicitly(
    run_gateway: RunGateway,
    postgres: PostgresServer,
    database: Database,
    destination: ScriptedDestination,
    logged: io.StringIO,
    setting: str,
) -> None:
    with postgres.running_with(**{setting: "off"}):
        with pytest.raises(StoreError, match=f"{setting}=off") as caught:
            await start(run_gateway, config(database.url, destination))
        assert "allow_unsynced" in str(caught.value.hint)
        assert not lines(logged, "store.unsynced")

        allowing = config(database.url, destination, allow_unsynced="true")
        async with run_gateway(allowing, STORE_PASSWORD=PASSWORD) as running:
            assert (await send(running, 1))[0] == 200
            await destination.wait_for(1)
    assert lines(logged, "store.unsynced")


def over_tls(database: Database, front: TlsInFront, authority: Path, host: str = "localhost") -> str:
    name = database.url.rpartition("/")[2]
    parameters = f"sslmode=verify-full&sslrootcert={authority}"
    return f"postgresql://gatehouse@{host}:{front.port}/{name}?{parameters}"


def written(folder: Path, client: ssl.SSLContext) -> Path:
    """Write the trusted certificates to a file."""
    (authority,) = client.get_ca_certs(binary_form=True)
    file = folder / "authority.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(authority))
    return file


async def test_the_certificate_of_the_server_is_verified(
    run_gateway: RunGateway,
    postgres: PostgresServer,
    database: Database,
    destination: ScriptedDestination,
    tmp_path: Path,
) -> None:
    server, client = tls_server(tmp_path, "localhost")
    authority = written(tmp_path, client)
    async with TlsInFront(postgres.port, server) as front:
        url = over_tls(database, front, authority)
        async with run_gateway(config(url, destination), STORE_PASSWORD=PASSWORD) as running:
            assert (await send(running, 1))[0] == 200
            await destination.wait_for(1)
        assert front.encrypted > 1
        assert front.refused == 0


async def test_a_server_with_another_name_in_its_certificate_is_refused(
    run_gateway: RunGateway,
    postgres: PostgresServer,
    database: Database,
    destination: ScriptedDestination,
    tmp_path: Path,
) -> None:
    server, client = tls_server(tmp_path, "db.example")
    authority = written(tmp_path, client)
    async with TlsInFront(postgres.port, server) as front:
        with pytest.raises(StoreError):
            await start(run_gateway, config(over_tls(database, front, authority), destination))
        assert front.encrypted == 0


async def test_a_changed_password_waits_for_a_restart(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination, tmp_path: Path
) -> None:
    file, secret = tmp_path / "gateway.yaml", tmp_path / "password"
    secret.write_text(PASSWORD)
    file.write_text(config(database.url, destination, password="file:password"))
    async with run_gateway(file.read_text()) as running:
        secret.write_text("the-next-password")
        for _ in range(2):
            assert (await running.gateway.reload()).needs_restart == ("store.password",)
        assert (await send(running, 1))[0] == 200

        secret.unlink()
        (problem,) = (await running.gateway.reload()).problems
        assert (problem.path, problem.message) == (
            "store.password",
            "file:password can't be read: No such file or directory",
        )
        secret.write_text(PASSWORD)
        assert (await running.gateway.reload()).needs_restart == ()


async def test_other_settings_that_need_a_restart_are_named(
    run_gateway: RunGateway, database: Database, destination: ScriptedDestination, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(config(database.url, destination))
    async with run_gateway(file.read_text(), STORE_PASSWORD=PASSWORD) as running:
        other = {"connections": "20", "allow_unsynced": "true", "keep_events": "1h"}
        file.write_text(config(database.url + "_2", destination, **other))
        result = await running.gateway.reload()

        assert result.needs_restart == ("store.url", "store.connections", "store.allow_unsynced")
        assert result.changes is not None
        assert result.changes.settings == ("store.keep_events",)
