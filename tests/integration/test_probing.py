"""What operators do to find out whether a destination is back, over real sockets."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gateways import CONFIG, RunGateway, Running
from operators import ALICE, CI, WITH_TOKENS, ask, supervised

#: The breaker opens with the first failure, and would probe after a minute.
BREAKER = "max: 20ms}}, breaker: {{failures: 1, open: 60s}}"
IMPATIENT = CONFIG.replace("max: 20ms}}", BREAKER)
WITH_ROLES = WITH_TOKENS.replace("max: 20ms}}", BREAKER)
PROBE = "/api/v1/destinations/app/probe"


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
