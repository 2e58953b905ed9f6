"""A provider sends an event again after the gateway has given up on it."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gatehouse.telemetry import log

if TYPE_CHECKING:
    from gateways import RunGateway, Running

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  mando: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}", retry: {{first: 10ms, max: 20ms}}}}
routes:
  - {{from: mando, to: app}}
"""
DEAD, PENDING = ("gatehouse_deliveries_dead", "app"), ("gatehouse_deliveries_pending", "app")
BODY = providers.body(id="evt_1", type="sale.created")


async def send(running: Running, body: bytes = BODY) -> dict[str, Any]:
    code, answer = await running.send("mando", body, providers.mando(body))
    assert code == 200
    return dict(answer)


@pytest.mark.case("F-44")
async def test_a_dead_event_that_its_provider_sends_again_is_delivered(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.always(status(410))
    logged = io.StringIO()
    log.configure(json=True, stream=logged)
    try:
        async with run_gateway(CONFIG.format(url=destination.url)) as running:
            first = await send(running)
            await running.until(DEAD, 1)

            # The destination works again. The repeated body differs, and the stored one is delivered.
            destination.always(status(200))
            again = await send(running, BODY + b" ")
            assert again == {"status": "duplicate", "id": first["id"]}
            _, delivered = await destination.wait_for(2)
            assert (delivered.event_id, delivered.attempt) == (first["id"], 2)
            await until(running, first["id"], ("delivered", 2))
            metrics = await running.metrics()
            assert (metrics[DEAD], metrics[PENDING]) == (0, 0)

            # A delivered event stays delivered.
            assert await send(running) == again
            assert await deliveries(running, first["id"]) == [("delivered", 2)]
    finally:
        log.reset()
    said = [
        (line["outcome"], line.get("revived"))
        for line in map(json.loads, logged.getvalue().splitlines())
        if line["event"] == "request.duplicate"
    ]
    assert said == [("conflict", 1), ("duplicate", None)]


@pytest.mark.case("F-44")
async def test_repeated_sending_does_not_cause_repeated_attempts(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.always(status(410))
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        first = await send(running)
        await running.until(DEAD, 1)
        await asyncio.gather(*(send(running) for _ in range(20)))
        await destination.wait_for(2)
        await until(running, first["id"], ("dead", 2))
        for _ in range(20):
            assert await send(running) == {"status": "duplicate", "id": first["id"]}
        assert await deliveries(running, first["id"]) == [("dead", 2)]
    assert len(destination.requests) == 2


async def deliveries(running: Running, event_id: str) -> list[tuple[str, int]]:
    async with running.client.get(f"{running.operator_url}/api/v1/events/{event_id}") as answer:
        found = await answer.json()
        return [(one["status"], one["attempts_made"]) for one in found["deliveries"]]


async def until(running: Running, event_id: str, expected: tuple[str, int]) -> None:
    async with asyncio.timeout(10):
        while await deliveries(running, event_id) != [expected]:  # noqa: ASYNC110 - polled, as operators do
            await asyncio.sleep(0.01)
