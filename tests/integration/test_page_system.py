"""The screens Refused, Live and System: what they say, and that a reload takes effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from browsing import Browser
from doubles import providers
from doubles.destination import ScriptedDestination
from gateways import RunGateway, Running

CONFIG = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mando: {provider: mando, secrets: ["file:secret"]}
  code: {provider: github, secrets: ["file:secret"]}
destinations:
  app: {url: "%s?key=in-the-query"}
routes:
  - {from: mando, types: ["sale.*"], to: app}
"""
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def file(tmp_path: Path, destination: ScriptedDestination) -> Path:
    """Write the config file, and return it."""
    (tmp_path / "secret").write_text(providers.SECRET)
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG % destination.url)
    return file


@pytest.fixture
async def running(run_gateway: RunGateway, file: Path) -> AsyncIterator[Running]:
    """Run a gateway with that file."""
    async with run_gateway(file.read_text()) as gateway:
        yield gateway


@pytest.fixture
async def browser(running: Running) -> AsyncIterator[Browser]:
    """Open the page of that gateway."""
    async with Browser(running.operator_url) as browser:
        yield browser


async def test_a_refused_request_shows_its_cause_and_stays_text(running: Running, browser: Browser) -> None:
    assert "No request has been refused since the start" in (await browser.get("/refused")).text
    body = providers.body()
    signed = providers.mando(body)
    assert (await running.send("mando", body + b" ", signed | {"User-Agent": MARKUP}))[0] == 401
    assert (await running.send("code", body, {}))[0] == 401

    listed = await browser.get("/refused")
    assert {"wrong_signature", "missing_signature"} <= set(listed.text.split())
    only = await browser.get("/refused?source=code&reason=missing_signature")
    assert "wrong_signature" not in only.html.partition("<tbody>")[2]
    assert "X-Hub-Signature-256 is missing" in only.text
    assert (await browser.get("/refused?source=&client=")).headers["location"] == "/refused"

    links = [part for part in listed.html.split('"') if part.startswith("/refused/")]
    shown = await browser.get(links[-1])
    assert MARKUP in shown.text
    assert MARKUP not in shown.html
    assert signed["X-Mando-Signature"] not in shown.html
    assert (await browser.get("/refused/nope")).status == 404


async def test_a_reload_is_shown_before_it_is_done(running: Running, browser: Browser, file: Path) -> None:
    assert "The file has no changes" in (await browser.get("/system/reload")).text
    file.write_text(file.read_text().replace('types: ["sale.*"]', 'types: ["*"]').replace("code:", "repo:"))

    plan = await browser.get("/system/reload")
    for part in ("added: repo", "removed: code", "What a reload would change"):
        assert part in plan.text
    assert set(running.gateway.sources) == {"mando", "code"}
    done = await browser.press("/system/reload", "/system/reload")
    assert "was reloaded" in done.text
    assert "was reloaded" not in (await browser.get("/system")).text, "a notice is shown once"
    assert set(running.gateway.sources) == {"mando", "repo"}

    file.write_text("sources: [")
    refused = await browser.get("/system/reload")
    assert (refused.status, "The file can't be used" in refused.text) == (400, True)
    assert set(running.gateway.sources) == {"mando", "repo"}


async def test_the_system_screen_shows_config_routes_and_audit(running: Running, browser: Browser) -> None:
    shown = await browser.get("/system")
    assert "in-the-query" not in shown.html
    assert "file:secret" in shown.text
    assert providers.SECRET not in shown.html
    assert "Nobody has changed anything yet" in shown.text
    tested = await browser.get("/system?source=mando&type=sale.created")
    assert "app , by routes.0 in line" in tested.text
    assert (
        "Such an event is stored, and not delivered"
        in (await browser.get("/system?source=mando&type=other")).text
    )
    assert "No source" in (await browser.get("/system?source=nope&type=x")).text

    async with running.client.post(f"{running.operator_url}/api/v1/destinations/app/pause") as answer:
        assert answer.status == 200
    audit = await browser.get("/system/audit?action=pause&who=local")
    assert "destination: app" in audit.text
    assert "No change matches" in (await browser.get("/system/audit?action=reload")).text
    assert (await browser.get("/system/audit?since=never")).status == 400


async def test_the_live_screen_leads_to_the_stream_with_its_filters(
    running: Running, browser: Browser
) -> None:
    shown = await browser.get("/live?source=mando&kinds=event")
    assert "needs JavaScript" in shown.text
    assert 'data-live="/live/stream?source=mando&amp;kinds=event&amp;at_most=50"' in shown.html
    url = f"{running.operator_url}/live/stream?source=mando&kinds=event&at_most=50"
    async with running.client.get(url) as stream:
        assert stream.headers["X-Accel-Buffering"] == "no"
        body = providers.body()
        assert (await running.send("mando", body, providers.mando(body)))[0] == 200
        while (line := await stream.content.readline()) != b"event: event\n":
            assert line
