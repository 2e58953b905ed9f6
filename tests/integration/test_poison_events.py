"""Poison events and outages: what happens to other events, and what is reported."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import pytest
from aiohttp import web

from doubles import providers
from doubles.destination import BODY, ScriptedDestination, status
from gatehouse.language.times import parse_iso8601
from gateways import CONFIG, RunGateway, Running

DELIVERED = ("gatehouse_deliveries_total", "app", "delivered")
OPEN = ("gatehouse_breaker_open", "app")


def config(url: str, breaker: str, more: str = "") -> str:
    retry, text = "retry: {first: 10ms, max: 20ms}", CONFIG.format(url=url)
    assert retry in text
    return text.replace(retry, f"retry: {{first: 50ms, max: 1s}}, breaker: {{{breaker}}}{more}")


async def send(running: Running, event_id: str) -> None:
    body = providers.body(id=event_id, type="sale.created", data={"id": event_id})
    code, _ = await running.send("mando", body, providers.mando(body))
    assert code == 200


def lines(logged: io.StringIO, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in logged.getvalue().splitlines()]
    return [line for line in found if line["event"] == event]


async def get_json(running: Running, path: str) -> Any:
    async with running.client.get(running.operator_url + path) as answer:
        return await answer.json()


def seconds(text: str | None) -> float:
    found = parse_iso8601(text or "")
    assert found is not None, text
    return found


@pytest.mark.case("F-02")
@pytest.mark.parametrize("form", ["cloudevents", "cloudevents-batch"])
async def test_an_application_that_fails_at_some_events_gets_all_others(
    run_gateway: RunGateway, destination: ScriptedDestination, form: str
) -> None:
    good: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        items = json.loads(request[BODY])
        ids = [item["data"]["id"] for item in (items if isinstance(items, list) else [items])]
        if any(one.startswith("poison") for one in ids):
            return web.Response(status=500)
        good.update(ids)
        return web.Response()

    destination.always(answer)
    text = config(destination.url, "open: 100ms, max_open: 200ms", f", format: {form}")
    async with run_gateway(text) as running:
        for number in range(60):
            await send(running, f"poison-{number}")
        for number in range(120):
            await send(running, f"good-{number}")
        await running.until(DELIVERED, 120, within=30)
        metrics = await running.metrics()
        assert metrics["gatehouse_deliveries_pending", "app"] == 60
        assert metrics["gatehouse_deliveries_dead", "app"] == 0
    assert good == {f"good-{number}" for number in range(120)}


@pytest.mark.alone
@pytest.mark.case("F-51")
async def test_due_times_are_those_of_the_next_probe_and_the_log_reports_the_breaker(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    destination.always(status(503))
    async with run_gateway(config(destination.url, "failures: 2, open: 2s, max_open: 2s")) as running:
        for number in range(4):
            await send(running, f"evt_{number}")
        await running.until(OPEN, 1)
        (app,) = (await get_json(running, "/api/v1/destinations"))["destinations"]
        assert app["breaker"] == "open"
        assert 1.9 < seconds(app["next_probe"]) - seconds(app["open_since"]) < 2.1
        page = await get_json(running, "/api/v1/deliveries")
        assert len(page["deliveries"]) == 4
        for row in page["deliveries"]:
            assert seconds(row["due"]) >= seconds(app["next_probe"]) - 0.01
            event = await get_json(running, f"/api/v1/events/{row['event_id']}")
            assert seconds(event["deliveries"][0]["due"]) >= seconds(app["next_probe"]) - 0.01

        destination.always(status(200))
        back = time.monotonic()
        await running.until(DELIVERED, 1)
        assert time.monotonic() - back < 2.5
        await running.until(DELIVERED, 4)
        (app,) = (await get_json(running, "/api/v1/destinations"))["destinations"]
        assert (app["breaker"], app["open_since"], app["next_probe"]) == ("closed", None, None)

    (opened,), (closed,) = lines(logged, "breaker.opened"), lines(logged, "breaker.closed")
    assert (opened["destination"], opened["reason"], opened["failures"]) == ("app", "server_error", 2)
    assert closed["destination"] == "app"
    assert 1.9 < closed["open_for"] < 4
    # No time of a next attempt was reported at which no attempt was made.
    failed = [line for line in lines(logged, "delivery.attempted") if line["reason"] != "ok"]
    # Both times are converted from the monotonic clock, each for itself, so they can differ by a microsecond.
    probe = seconds(opened["next_probe"]) - 0.01
    assert [line for line in failed if seconds(line["next_try"]) >= probe]
    assert {line["level"] for line in failed} == {"warning"}


@pytest.mark.case("F-51")
async def test_a_delivery_to_a_paused_destination_has_no_due_time(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(config(destination.url, "failures: 2")) as running:
        await running.gateway._dispatcher.pause("app")
        await send(running, "evt_1")
        (row,) = (await get_json(running, "/api/v1/deliveries"))["deliveries"]
        assert (row["status"], row["due"]) == ("pending", None)
        await running.gateway._dispatcher.resume("app")
        await running.until(DELIVERED, 1)


@pytest.mark.case("F-51")
async def test_after_an_outage_the_first_delivery_comes_within_max_open(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    """This holds even if all remaining deliveries have failed so often that they are due much later."""
    destination.always(status(503))
    text = config(destination.url, "failures: 2, open: 100ms, max_open: 200ms")
    async with run_gateway(text.replace("max: 1s", "factor: 10, max: 1h")) as running:
        for number in range(3):
            await send(running, f"evt_{number}")
        # At this point, each of them is due in minutes.
        await destination.wait_for(15)
        destination.always(status(200))
        async with asyncio.timeout(2):
            await running.until(DELIVERED, 1)
