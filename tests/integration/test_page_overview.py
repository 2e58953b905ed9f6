"""The overview of the operator page: what needs operator action, and numbers with links."""

from __future__ import annotations

from pathlib import Path

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gateways import CONFIG, RunGateway, Running
from operators import ask, supervised
from pages import counted_since, look, submit

_FAILING = CONFIG.replace("max: 20ms}}", "max: 20ms}}, breaker: {{failures: 1, open: 60s}}")
TROUBLED = _FAILING.replace("secrets: [env:EINVOICE]", "secrets: [env:ABSENT]")


async def send(running: Running, event_id: str, **headers: str) -> int:
    body = providers.body(id=event_id, type="sale.created")
    return (await running.send("mando", body, providers.mando(body) | headers))[0]


async def test_an_overview_without_trouble_says_so_and_links_each_number_to_its_list(
    running: Running,
) -> None:
    assert await send(running, "evt_1") == 200
    await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
    page, since = await look(running, "/"), await counted_since(running)

    assert page.status == 200
    assert "Nothing needs operator action." in page.words
    assert "mando ready" in page.words
    assert "hisab ready, no event since the start" in page.words
    assert "app delivering 0 none 0" in page.words
    assert "accepted events in the last 24 hours: 1" in page.html
    assert page.links >= {
        "/events?source=mando",
        f"/events?source=mando&{since}",
        "/refused?source=mando",
        "/sources/mando",
        "/destinations/app",
        "/dead?destination=app",
        "/events?destination=app&status=pending",
    }


async def test_what_needs_operator_action_comes_first_with_what_to_do(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.always(status(503))
    async with run_gateway(TROUBLED.format(url=destination.url)) as running:
        assert await send(running, "evt_1") == 200
        assert await send(running, "evt_2", **{"X-Mando-Signature": "sha256=" + "0" * 64}) == 401
        await running.until(("gatehouse_breaker_open", "app"), 1)
        open_breaker = await look(running, "/")
        assert (await ask(running, "POST", "/api/v1/destinations/app/pause", {}))[0] == 200
        paused = await look(running, "/")

    assert open_breaker.words.startswith(
        "Overview Needs operator action Not ready Source e-invoice answers 503: env:ABSENT is not set."
        " Set the variable, then restart the gateway. Source e-invoice"
        " Breaker open The circuit breaker of app has been open for"
    )
    assert ", next probe in " in open_breaker.words
    assert "mando refused 1 request in the last hour, the latest" in open_breaker.words
    assert ": wrong_signature. See what was found" in open_breaker.words
    assert "Paused app has been paused for 1 s. 1 delivery waits." in paused.words
    assert "Paused" not in open_breaker.words


async def test_the_screens_show_and_change_what_all_workers_have(
    destination: ScriptedDestination, tmp_path: Path
) -> None:
    async with supervised(destination.url, tmp_path, CONFIG, workers=2) as (running, url):
        for number, worker in enumerate(running.all):
            assert await send(worker, f"evt_{number}") == 200
        await destination.wait_for(2)
        overview = await look(running, "/", url)
        screens = [
            await look(running, path, url)
            for path in ("/destinations", "/destinations/app", "/sources", "/sources/mando")
        ]
        paused = await submit(running, "/destinations/app", "/destinations/app/pause", url)
        (app,) = (await ask(running, "GET", "/api/v1/destinations", {}, url=url))[1]["destinations"]

    assert "accepted events in the last 24 hours: 2" in overview.html
    assert "Workers 2 of 2 serve" in overview.words
    assert [one.status for one in screens] == [200] * 4
    assert "accepted 2" in screens[-1].words
    assert (paused.location, app["paused"]) == ("/destinations/app", True)
