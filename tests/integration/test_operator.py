"""The operator listener: liveness without dependencies, readiness by part, metrics behind a token."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from doubles.destination import ScriptedDestination
from gatehouse.config.load import parse
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.gateway.app import Gateway
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"


async def get(running: Running, path: str, **headers: str) -> tuple[int, str]:
    async with running.client.get(running.operator_url + path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_health_and_readiness_are_json(running: Running) -> None:
    assert await get(running, "/healthz") == (200, '{"status": "alive"}')
    assert await get(running, "/readyz") == (
        200,
        '{"status": "ready", "parts": {"store": "ok", "disk": "ok", "ingest": "ok"}}',
    )


async def test_the_gateway_is_not_ready_before_the_listener_for_providers_is(
    run_gateway: RunGateway, destination: ScriptedDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting a large store takes a while, and the operator listener runs before it ends."""
    said: list[tuple[int, str]] = []
    start = Dispatcher.start

    async def asked(dispatcher: Dispatcher) -> None:
        port = gateways[0].operator.port
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            said.append((answer.status, (await answer.json())["parts"]["ingest"]))
        await start(dispatcher)

    gateways: list[Gateway] = []
    enter = Gateway.__aenter__

    async def remembered(gateway: Gateway) -> Gateway:
        gateways.append(gateway)
        return await enter(gateway)

    monkeypatch.setattr(Gateway, "__aenter__", remembered)
    monkeypatch.setattr(Dispatcher, "start", asked)
    async with run_gateway(CONFIG.format(url=destination.url)):
        pass

    assert said == [(503, "not listening")]


@pytest.mark.case("O-01")
async def test_a_gateway_with_a_locked_store_is_not_ready_but_alive(running: Running, tmp_path: Path) -> None:
    lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    for _ in range(3):
        status, text = await get(running, "/readyz")
        assert (status, json.loads(text)) == (
            503,
            {"status": "not_ready", "parts": {"store": "unavailable", "disk": "ok", "ingest": "ok"}},
        )
        assert await get(running, "/healthz") == (200, '{"status": "alive"}')
    lock.execute("ROLLBACK")
    lock.close()
    assert (await get(running, "/readyz"))[0] == 200


@pytest.mark.case("O-01", "O-07")
async def test_a_gateway_on_a_full_disk_is_not_ready_but_alive(running: Running) -> None:
    disk: Any = running.gateway._disk
    disk._free = lambda _: 1024
    await disk.check_space()

    status, text = await get(running, "/readyz")
    assert (status, json.loads(text)["parts"]) == (503, {"store": "ok", "disk": "low", "ingest": "ok"})
    assert (await get(running, "/healthz"))[0] == 200
    disk._free = lambda _: 2**40
    await disk.check_space()
    assert (await get(running, "/readyz"))[0] == 200


async def test_a_gateway_is_not_ready_while_it_starts(tmp_path: Path) -> None:
    """The operator listener starts first, so it must work before the other listener exists."""
    gateway = Gateway(parse("sources: {}\n", directory=tmp_path))

    assert await gateway._probe_ingest() == "not listening"
    assert await gateway._probe_store() == "closed"


async def test_the_token_is_needed_for_metrics_and_not_for_health(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace(
        'operator: {{listen: "127.0.0.1:0"}}', 'operator: {{listen: "127.0.0.1:0", token: env:T}}'
    )
    async with run_gateway(config.format(url=destination.url), T=TOKEN) as running:
        assert (await get(running, "/healthz"))[0] == 200
        assert (await get(running, "/readyz"))[0] == 200
        assert (await get(running, "/metrics"))[0] == 401
        for wrong in (TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", "Bearer é"):
            assert (await get(running, "/metrics", Authorization=wrong))[0] == 401
        assert (await get(running, f"/metrics?token={TOKEN}"))[0] == 401
        assert (await get(running, "/metrics", Authorization=f"Bearer {TOKEN}"))[0] == 200


async def test_a_configured_token_that_is_missing_locks_everything_except_health(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace(
        'operator: {{listen: "127.0.0.1:0"}}', 'operator: {{listen: "127.0.0.1:0", token: env:T}}'
    )

    async with run_gateway(config.format(url=destination.url)) as running:
        assert running.gateway.not_ready() == ["operator: env:T is not set"]
        assert (await get(running, "/metrics"))[0] == 401
        assert (await get(running, "/metrics", Authorization="Bearer "))[0] == 401
        assert (await get(running, "/healthz"))[0] == 200


@pytest.mark.parametrize(("path", "status"), [("/api", 404), ("/nope", 404), ("/static/../x", 404)])
async def test_anything_else_is_a_json_error(running: Running, path: str, status: int) -> None:
    answer = await get(running, path)

    assert answer[0] == status
    assert '"code"' in answer[1]


async def test_promtool_accepts_the_metrics(running: Running, promtool: str) -> None:
    async with running.client.get(f"{running.operator_url}/metrics") as answer:
        text = await answer.read()
    checked = await asyncio.create_subprocess_exec(
        *(promtool, "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await checked.communicate(text)

    assert (checked.returncode, said) == (0, b"")
