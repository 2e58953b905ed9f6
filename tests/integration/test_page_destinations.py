"""The screens of destinations: their state in words, and pause, resume, probe and test events."""

from __future__ import annotations

from typing import Any

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gateways import CONFIG, RunGateway, Running
from operators import ask
from pages import counted_since, look, submit

APP = "/destinations/app"
IMPATIENT = CONFIG.replace("max: 20ms}}", "max: 20ms}}, breaker: {{failures: 1, open: 60s}}")
#: Nothing of this may become markup.
HOSTILE = b'<script>alert(1)</script>\x00 "&amp;'


async def state(running: Running) -> dict[str, Any]:
    """Return what the API says about the destination."""
    _, shown = await ask(running, "GET", "/api/v1/destinations", {})
    found: dict[str, Any] = shown["destinations"][0]
    return found


async def send(running: Running, event_id: str) -> None:
    body = providers.body(id=event_id, type="sale.created")
    assert (await running.send("mando", body, providers.mando(body)))[0] == 200


async def test_an_open_breaker_is_said_and_can_be_probed(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    destination.always(status(503))
    async with run_gateway(IMPATIENT.format(url=destination.url)) as running:
        await send(running, "evt_1")
        await running.until(("gatehouse_breaker_open", "app"), 1)
        listed, page = await look(running, "/destinations"), await look(running, APP)
        assert APP in (await look(running, "/destinations?name=ap&state=breaker+open")).links
        assert "No destination matches" in (await look(running, "/destinations?state=paused")).words
        assert "app breaker open: 1 event failed, next probe in" in listed.words
        assert "The circuit breaker of app has been open for" in page.words
        assert "If it is back, probe it now." in page.words
        assert "pending sale.created mando server_error 503 1 in" in page.words
        assert "Failed attempts by reason in the last 24 hours: 1 server_error." in page.html
        since = await counted_since(running)
        assert page.links >= {
            "/events?destination=app&reason=server_error",
            "/events?destination=app&http_status=503",
            f"/events?destination=app&reason=server_error&{since}",
            "/events?destination=app&status=pending",
        }

        destination.always(status(200))
        probed = await submit(running, APP, f"{APP}/probe")
        assert (probed.status, probed.location) == (303, APP)
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
        delivering = await look(running, APP)
        assert delivering.words.startswith("Destinations Destination app delivering Pause Send a test event")
        assert "No pending delivery has failed, and none is dead." in delivering.words


async def test_pause_and_resume_take_effect_and_are_recorded(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        assert (await submit(running, APP, f"{APP}/pause")).location == APP
        await send(running, "evt_1")
        assert (await state(running))["paused"]
        paused = await look(running, APP)
        assert "app has been paused for 1 s. 1 delivery waits." in paused.words
        assert f"{APP}/pause" not in paused.actions

        assert (await submit(running, APP, f"{APP}/resume")).location == APP
        await running.until(("gatehouse_deliveries_total", "app", "delivered"), 1)
        assert not (await state(running))["paused"]
        _, changes = await ask(running, "GET", "/api/v1/audit", {})
        assert [(one["action"], one["what"]) for one in changes["audit"]] == [
            ("resume", {"destination": "app"}),
            ("pause", {"destination": "app"}),
        ]
        assert (await look(running, "/destinations/ap")).status == 404


async def test_a_test_event_shows_the_reply_of_the_app_as_text(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        destination.script(status(422, body=HOSTILE), status(200))
        refused = await submit(running, APP, f"{APP}/test")
        accepted = await submit(running, APP, f"{APP}/test")
        again = await look(running, f"{APP}/test")

    assert refused.status == 200
    assert "Test event rejected with HTTP status 422 after" in refused.words
    assert 'Reply <script>alert(1)</script>U+0000 "&amp;' in refused.words
    assert "<script>alert" not in refused.html
    assert "Test event accepted with HTTP status 200 after" in accepted.words
    assert "The reply had no body." in accepted.words
    assert (again.status, again.location) == (303, APP)
    assert len(destination.requests) == 2
