"""A captured request that is sent again is a duplicate within the dedupe window, and stale after it."""

from __future__ import annotations

import time

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import CONFIG, RunGateway

DAY = 86400.0


@pytest.mark.case("O-17")
@pytest.mark.parametrize("source", ["getpeppr", "hisab"])
async def test_after_the_window_the_signed_timestamp_refuses_a_captured_request(
    run_gateway: RunGateway, destination: ScriptedDestination, source: str
) -> None:
    now = time.time()
    sign = {"getpeppr": providers.getpeppr, "hisab": providers.hisab}[source]
    captured = providers.body(id="evt_1", type="invoice.paid", event="invoice.paid", data={"id": "1"})
    headers = sign(captured, at=now)
    async with run_gateway(CONFIG.format(url=destination.url), clock=lambda: now) as running:
        first = await running.send(source, captured, headers)
        again = await running.send(source, captured, headers)
        now += 8 * DAY
        late = await running.send(source, captured, headers)

    assert (first[0], first[1]["status"]) == (200, "accepted")
    assert (again[0], again[1]["status"]) == (200, "duplicate")
    assert (late[0], late[1]["error"]["code"]) == (401, "unauthorized")
    assert len(destination.requests) <= 1


@pytest.mark.case("O-17")
async def test_duplicates_do_not_prolong_the_window(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    """Mando signs no timestamp, so it is a new event seven days after the first request."""
    now = time.time()
    body = providers.body(id="evt_1", type="sale.created", data={"id": "1"})
    said = []
    text = CONFIG.format(url=destination.url)
    async with run_gateway(text, clock=lambda: now, elapsed=lambda: now) as running:
        for _ in range(9):
            code, answer = await running.send("mando", body, providers.mando(body))
            said.append((code, answer["status"]))
            now += DAY

    assert said == [(200, "accepted"), *[(200, "duplicate")] * 6, (200, "accepted"), (200, "duplicate")]
