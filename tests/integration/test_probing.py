"""What operators do to find out whether a destination is back, over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

from standardwebhooks import Webhook

from doubles import providers
from doubles.destination import ScriptedDestination, reset, status
from gatehouse.events.envelope import batch_id
from gateways import CONFIG, SIGNING_SECRET, RunGateway, Running
from operators import ALICE, CI, WITH_TOKENS, ask, supervised

#: The breaker opens with the first failure, and would probe after a minute.
BREAKER = "max: 20ms}}, breaker: {{failures: 1, open: 60s}}"
IMPATIENT = CONFIG.replace("max: 20ms}}", BREAKER)
WITH_ROLES = WITH_TOKENS.replace("max: 20ms}}", BREAKER)
PROBE, TEST = "/api/v1/destinations/app/probe", "/api/v1/destinations/app/test"


async def open_breaker(running: Running, destination: ScriptedDestination) -> None:
    """Send an event that fails, and wait until the breaker is open."""
    destination.always(status(503))
    body = providers.body(id="evt_1", type="sale.created")
    assert (await running.send("mando", body, providers.mando(body)))[0] == 200
    await until(running, 1, "gatehouse_breaker_open", destination="app")


async def until(running: Running, value: float, name: str, **labels: str) -> None:
    """Wait until a metric has a value. A worker shows it to its supervisor only."""
    async with asyncio.timeout(10):
        while running.gateway.metrics.registry.get_sample_value(name, labels) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_probe_starts_at_once_and_closes_the_breaker_when_it_succeeds(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    async with run_gateway(IMPATIENT.format(url=destination.url)) as running:
        await open_breaker(running, destination)
        for count in (2, 3):  # it is still down, and nobody has to wait for the next probe
            code, shown = await ask(running, "POST", PROBE, {})
            assert (code, shown["name"], shown["breaker"]) == (200, "app", "open")
            assert (await destination.wait_for(count))[-1].attempt == count
            await until(running, count, "gatehouse_attempts_total", destination="app", reason="server_error")
        destination.always(status(200))
        assert (await ask(running, "POST", PROBE, {}))[0] == 200
        await destination.wait_for(4)
        await until(running, 0, "gatehouse_breaker_open", destination="app")
        _, changes = await ask(running, "GET", "/api/v1/audit?action=probe", {})

    assert [(one["what"], one["count"]) for one in changes["audit"]] == [({"destination": "app"}, 1)] * 3
    assert logged.getvalue().count('"event":"destination.probed","destination":"app"') == 3


async def test_nothing_is_probed_while_the_breaker_is_closed_or_the_destination_is_paused(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(IMPATIENT.format(url=destination.url)) as running:
        code, closed = await ask(running, "POST", PROBE, {})
        assert (code, closed["error"]["code"]) == (409, "breaker_closed")
        assert closed["error"]["message"] == "the circuit breaker of app is closed; nothing to probe"
        await open_breaker(running, destination)
        await ask(running, "POST", "/api/v1/destinations/app/pause", {})
        code, paused = await ask(running, "POST", PROBE, {})
        assert (code, paused["error"]["code"]) == (409, "paused")
        assert paused["error"]["message"] == "app is paused; resume it to deliver to it"
        assert (await ask(running, "POST", "/api/v1/destinations/ap/probe", {}))[0] == 404
        _, changes = await ask(running, "GET", "/api/v1/audit?action=probe", {})

    assert (changes["audit"], len(destination.requests)) == ([], 1)


async def test_all_workers_probe_whose_breaker_is_open_and_one_records_it(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with supervised(destination.url, tmp_path, WITH_ROLES, workers=2) as (running, url):
        assert (await ask(running, "POST", PROBE, ALICE, url=url))[0] == 409
        for worker in running.all:
            await open_breaker(worker, destination)
        assert (await ask(running, "POST", PROBE, CI, url=url))[0] == 403
        destination.always(status(200))
        code, shown = await ask(running, "POST", PROBE, ALICE, url=url)
        assert (code, shown["name"]) == (200, "app")
        received = await destination.wait_for(4)
        _, changes = await ask(running, "GET", "/api/v1/audit?action=probe", CI, url=url)

    assert [request.attempt for request in received] == [1, 1, 2, 2]
    assert [(one["who"], one["count"]) for one in changes["audit"]] == [("alice", 1)]


async def test_a_test_event_arrives_like_a_delivery_and_changes_nothing(
    run_gateway: RunGateway, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    async with run_gateway(IMPATIENT.format(url=destination.url)) as running:
        await open_breaker(running, destination)
        await ask(running, "POST", "/api/v1/destinations/app/pause", {})
        before = await unchanging(running)
        long = status(422, body="é".encode() * 1000)
        # The third one is sent again on a new connection, as after the end of an idle connection.
        destination.script(status(200, body=b"thank you"), long, reset(), reset())
        tested = [await ask(running, "POST", TEST, {}) for _ in range(3)]
        after = await unchanging(running)
        _, changes = await ask(running, "GET", "/api/v1/audit?action=test", {})

    assert before == after
    assert {code for code, _ in tested} == {200}
    accepted, refused, broken = (answer for _, answer in tested)
    assert accepted.pop("duration_ms") < 10_000
    assert accepted == {"reason": "ok", "http_status": 200, "error": None, "reply": "thank you"}
    assert (refused["reason"], refused["http_status"], refused["reply"]) == ("rejected", 422, "é" * 512)
    assert (broken["reason"], broken["http_status"], broken["reply"]) == ("disconnected", None, None)
    assert broken["error"]
    _, *received = destination.requests
    assert [request.attempt for request in received] == [1, 1, 1, 1]
    assert len({request.event_id for request in received}) == 3
    Webhook(SIGNING_SECRET).verify(received[0].body, dict(received[0].headers))
    event = json.loads(received[0].body)
    assert (event["source"], event["type"]) == ("gatehouse", "gatehouse.test")
    assert (event["id"], event["data"]["destination"]) == (received[0].event_id, "app")
    reasons = ["disconnected", "rejected", "ok"]
    assert [one["what"] for one in changes["audit"]] == [
        {"destination": "app", "reason": reason} for reason in reasons
    ]
    assert logged.getvalue().count('"event":"destination.tested","destination":"app"') == 3
    assert "thank you" not in logged.getvalue()


async def unchanging(running: Running) -> object:
    """Return what a test event must not change: numbers, the destination's state and the stored events."""
    _, shown = await ask(running, "GET", "/api/v1/destinations", {})
    for one in shown["destinations"]:  # computed from the clock, so it moves by a few microseconds
        assert one.pop("open_since")
        assert one.pop("next_probe")
    _, stored = await ask(running, "GET", "/api/v1/events", {})
    metrics = {series: value for series, value in (await running.metrics()).items() if "app" in series}
    del metrics["gatehouse_oldest_pending_age_seconds", "app"]
    return shown, stored["events"], metrics


async def test_a_test_event_for_batches_is_a_batch_of_one(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace('url: "{url}"', 'url: "{url}", format: cloudevents-batch')
    async with run_gateway(config.format(url=destination.url)) as running:
        destination.script(status(200, body=b'[{"status": 422, "error": "no such customer"}]'))
        code, tested = await ask(running, "POST", TEST, {})

    assert (code, tested["reason"], tested["http_status"]) == (200, "rejected", 422)
    assert "no such customer" in tested["reply"]
    (request,) = destination.requests
    assert request.headers["Content-Type"].startswith("application/cloudevents-batch+json")
    (event,) = json.loads(request.body)
    assert event["type"] == "gatehouse.test"
    assert request.event_id == batch_id([event["gatehouseid"]])


async def test_nothing_is_sent_unsigned_to_a_destination_without_its_secret(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = CONFIG.replace("env:SIGNING", "env:MISSING")
    async with run_gateway(config.format(url=destination.url)) as running:
        code, refused = await ask(running, "POST", TEST, {})
        assert (await ask(running, "POST", "/api/v1/destinations/ap/test", {}))[0] == 404

    assert (code, refused["error"]["code"]) == (409, "not_ready")
    assert refused["error"]["message"].startswith("app is not ready: env:MISSING")
    assert not destination.requests


async def test_one_of_several_workers_sends_a_test_event(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with supervised(destination.url, tmp_path, workers=2) as (running, url):
        assert (await ask(running, "POST", TEST, CI, url=url))[0] == 403
        code, tested = await ask(running, "POST", TEST, ALICE, url=url)
        _, changes = await ask(running, "GET", "/api/v1/audit?action=test", CI, url=url)

    assert (code, tested["reason"], len(destination.requests)) == (200, "ok", 1)
    assert [one["who"] for one in changes["audit"]] == ["alice"]
