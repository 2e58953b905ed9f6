"""The operator's listener: health that touches nothing, readiness part by part, metrics behind a token."""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway, Running

TOKEN = "operator-token-of-some-length"


async def get(running: Running, path: str, **headers: str) -> tuple[int, str]:
    async with running.client.get(running.operator_url + path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_health_and_readiness_are_json(running: Running) -> None:
    assert await get(running, "/healthz") == (200, '{"status": "alive"}')
    assert await get(running, "/readyz") == (
        200,
        '{"status": "ready", "parts": {"store": "ok", "ingest": "ok"}}',
    )


async def test_a_locked_store_is_not_ready_but_alive(running: Running, tmp_path: Path) -> None:
    lock = sqlite3.connect(tmp_path / "gatehouse.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    assert (await get(running, "/readyz"))[0] == 503
    assert (await get(running, "/healthz"))[0] == 200
    lock.execute("ROLLBACK")
    lock.close()
    assert (await get(running, "/readyz"))[0] == 200


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


async def test_a_token_that_is_configured_and_missing_locks_everything_but_health(
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


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/nope", 404), ("/static/../x", 404)])
async def test_anything_else_is_a_json_error(running: Running, path: str, status: int) -> None:
    answer = await get(running, path)

    assert answer[0] == status
    assert '"code"' in answer[1]


async def test_promtool_finds_nothing_to_say_about_the_metrics(running: Running, promtool: str) -> None:
    async with running.client.get(f"{running.operator_url}/metrics") as answer:
        text = await answer.read()
    checked = await asyncio.create_subprocess_exec(
        *(promtool, "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await checked.communicate(text)

    assert (checked.returncode, said) == (0, b"")
