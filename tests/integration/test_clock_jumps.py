"""A jump of the machine's clock delays no delivery, makes none dead, and expires no key."""

from __future__ import annotations

import asyncio
import io
import json
import time

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gateways import CONFIG, RunGateway, Running

pytestmark = pytest.mark.alone

HOUR, DAY = 3600.0, 86400.0
DELIVERED = ("gatehouse_deliveries_total", "app", "delivered")


class Clock:
    """The machine's clock, which tests can set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def send(running: Running, event_id: str) -> str:
    body = providers.body(id=event_id, type="sale.created", data={"id": event_id})
    code, answer = await running.send("mando", body, providers.mando(body))
    assert code == 200
    return str(answer["status"])


def config(url: str, more: str) -> str:
    return CONFIG.format(url=url).replace("retry: {first: 10ms, max: 20ms}", more)


@pytest.mark.case("F-12")
@pytest.mark.parametrize("seconds", [-2 * HOUR, 45.0, 2 * HOUR, 8 * DAY, -8 * DAY])
async def test_a_clock_jump_neither_delays_a_retry_nor_makes_a_delivery_dead(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO, seconds: float
) -> None:
    clock = Clock()
    destination.script(status(503), status(503))
    text = config(destination.url, "retry: {first: 300ms, max: 300ms, give_up_after: 30s}")
    async with run_gateway(text, clock=clock) as running:
        await send(running, "evt_1")
        await destination.wait_for(1)
        clock.ahead = seconds
        await destination.wait_for(3, within=5)
        await running.until(DELIVERED, 1)
        assert (await running.metrics())["gatehouse_deliveries_dead", "app"] == 0
        # New events are accepted, delivered and deduplicated as usual.
        assert [await send(running, "evt_2"), await send(running, "evt_2")] == ["accepted", "duplicate"]
        await running.until(DELIVERED, 2)
        async with asyncio.timeout(5):
            while "clock.jumped" not in logged.getvalue():  # noqa: ASYNC110 - a log sends no notifications
                await asyncio.sleep(0.02)
    lines = map(json.loads, logged.getvalue().splitlines())
    (line,) = [one for one in lines if one["event"] == "clock.jumped"]
    assert abs(line["seconds"] - seconds) < 1


@pytest.mark.case("F-12")
async def test_keys_and_events_are_kept_when_the_clock_is_set_a_week_ahead(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    clock = Clock()
    text = CONFIG.format(url=destination.url)
    async with run_gateway(text, clock=clock) as running:
        assert await send(running, "evt_1") == "accepted"
        await running.until(DELIVERED, 1)
        for ahead in (8 * DAY, 40 * DAY, 0.0):
            clock.ahead = ahead
            await running.gateway._retention.sweep()
            assert await send(running, "evt_1") == "duplicate"
            async with running.client.get(f"{running.operator_url}/api/v1/events") as answer:
                assert len((await answer.json())["events"]) == 1


@pytest.mark.case("F-12")
async def test_signed_times_are_compared_with_the_current_setting_of_the_clock(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    clock = Clock()
    body = providers.body(id="evt_1", type="invoice.paid", event="invoice.paid", data={"id": "1"})
    async with run_gateway(CONFIG.format(url=destination.url), clock=clock) as running:
        clock.ahead = 8 * DAY
        old = await running.send("getpeppr", body, providers.getpeppr(body, at=time.time()))
        new = await running.send("getpeppr", body, providers.getpeppr(body, at=clock()))
        assert (old[0], new[0]) == (401, 200)
        (request,) = await destination.wait_for(1)
        # Destinations compare with their own clock, which is right if this one is.
        assert abs(int(request.headers["webhook-timestamp"]) - clock()) < 5
