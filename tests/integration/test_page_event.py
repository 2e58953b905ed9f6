"""The page of an event: its timeline, its body, what can be done with it; and the list that leads there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from html import unescape
from typing import Any, NamedTuple

import pytest

from doubles import providers
from doubles.destination import ScriptedDestination, status
from gateways import RunGateway, Running
from operators import CI, VALUES
from pages import look, submit

CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  shop: {{provider: mando, secrets: [env:SECRET]}}
destinations:
  app: {{url: "{url}"}}
  ledger: {{url: "{url}/ledger"}}
  archive: {{url: "{url}/archive"}}
routes:
  - {{from: shop, types: ["sale.*"], to: [app, ledger]}}
  - {{from: shop, types: ["*onerror*"], to: app}}
"""
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp"
EXACT = '{"id":"evt_1","type":"sale.created","n":12345678901234567890.10,  "x":"</pre><script>\\u0000\u202e"}'
REPLY = b"<h1>Server Error (500)</h1>\n" * 9


class Shop(NamedTuple):
    """A gateway whose destinations answer as scripted."""

    running: Running
    app: ScriptedDestination

    async def send(self, body: bytes) -> str:
        code, answer = await self.running.send("shop", body, providers.mando(body))
        assert code == 200, answer
        return str(answer["id"])

    async def deliveries(self, event_id: str) -> dict[str, dict[str, Any]]:
        url = f"{self.running.operator_url}/api/v1/events/{event_id}"
        async with self.running.client.get(url) as answer:
            return {one["destination"]: one for one in (await answer.json())["deliveries"]}

    async def until(self, event_id: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds(await self.deliveries(event_id)):  # noqa: ASYNC110 - the store has no signal
                await asyncio.sleep(0.01)


@pytest.fixture
async def shop(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Shop]:
    async with run_gateway(CONFIG.format(url=destination.url)) as running:
        yield Shop(running, destination)


def statuses(**wanted: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(found[name]["status"] == value for name, value in wanted.items())


async def test_the_timeline_tells_what_happened_and_each_action_takes_effect(shop: Shop) -> None:
    shop.app.always(status(410, body=REPLY))
    event_id = await shop.send(EXACT.encode())
    await shop.until(event_id, statuses(app="dead", ledger="dead"))
    assert await shop.send(EXACT.encode()) == event_id
    await shop.until(event_id, lambda found: all(one["attempts_made"] == 2 for one in found.values()))
    path = f"/events/{event_id}"
    assert (await look(shop.running, f"/events?external_id={event_id}")).location == path
    words = (await look(shop.running, path)).words
    for said in (
        "sale.created dead",
        "path /webhooks/shop, provider mando",
        "By HMAC-SHA256, with the secret env:SECRET",
        "ms after receipt",
        "To app",
        "Routed by routes.0 (line 11): from shop, types sale.*, to app, ledger",
        "Attempt 1: gone, HTTP 410",
        "so there is no further attempt",
        "<h1>Server Error (500)</h1>",
        "same as attempt 1",
        "Dead letter since",
        "Discard…",
        "Sent again by the provider 1 time.",
        "app had it: dead",
        "archive never had it",
    ):
        assert said in words
    assert "archive never had it, and" not in words
    shop.app.always(status(200))
    seen = await submit(shop.running, path, f"{path}/retry", destination="app")
    assert (seen.status, seen.location) == (303, path)
    seen = await submit(shop.running, path, f"{path}/discard", destination="ledger", note="not <b>needed</b>")
    assert seen.status == 303
    await shop.until(event_id, statuses(app="delivered", ledger="discarded"))
    await submit(shop.running, path, f"{path}/replay", to="archive")
    await shop.until(event_id, lambda found: found.get("archive", {}).get("status") == "delivered")
    words = (await look(shop.running, path)).words
    for said in ("Attempt 3: accepted, HTTP 200", "Discarded by local", "Note: not <b>needed</b>"):
        assert said in words
    assert "No route of the config in use selects it." in words
    assert "/events?source=shop&amp;type=sale.created" in (await look(shop.running, path)).html


async def test_a_body_is_shown_and_downloaded_byte_for_byte(shop: Shop) -> None:
    bodies = [
        EXACT.encode(),
        b"\xff\x00\xfe" * 600,
        b'{"id":"2","type":"other","x":"' + b"y" * 100_000 + b'"}',
    ]
    first, binary, long = [await shop.send(body) for body in bodies]
    shown = await look(shop.running, f"/events/{first}")
    (text,) = re.findall(r'<pre id="body-text"[^>]*>\n(.*?)</pre>', shown.html, re.DOTALL)
    assert unescape(re.sub("<[^>]*>", "", text)) == EXACT.replace("\u202e", "U+202E")
    assert (
        "not text. These are the first 1,024 bytes" in (await look(shop.running, f"/events/{binary}")).words
    )
    page = await look(shop.running, f"/events/{long}")
    assert "These are the first 65,536 bytes of 100,032." in page.words
    assert "Download the body to see the rest" in page.words
    assert len(page.html) < 100_000
    for event_id, body in zip((first, binary, long), bodies, strict=True):
        async with shop.running.client.get(f"{shop.running.operator_url}/events/{event_id}/body") as answer:
            assert await answer.read() == body
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="{event_id}.')
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_what_a_provider_names_stays_text(shop: Shop) -> None:
    body = json.dumps({"id": HOSTILE, "type": HOSTILE, "data": {"id": HOSTILE}}).encode()
    event_id = await shop.send(body)
    for path in ("/events", f"/events/{event_id}", f"/events/{event_id}?curl=javascript:alert(1)"):
        seen = await look(shop.running, path)
        assert seen.status == 200
        assert "<img" not in seen.html
        assert "\u202e" not in seen.html.partition("</head>")[2]
    assert "has to start with http" in seen.words
    assert "curl --globoff http://localhost:3000/" in seen.words


async def test_the_list_leads_to_a_plan_and_to_a_file(shop: Shop) -> None:
    ids = [await shop.send(providers.body(id=f"evt_{n}", type=f"sale.{n % 2}")) for n in range(210)]
    listed = await look(shop.running, "/events?type=sale.1")
    assert {"/events/replay?type=sale.1", "/events/export?type=sale.1"} <= {
        link.replace("&amp;", "&") for link in listed.links
    }
    seen = await look(shop.running, f"/events/selected?type=sale.1&id={ids[1]}&id={ids[3]}")
    assert seen.location == f"/events/replay?id={ids[1]}&id={ids[3]}"
    seen = await look(shop.running, "/events/selected?type=sale.1")
    assert seen.location == "/events?type=sale.1"
    url = f"{shop.running.operator_url}/events/export"
    async with shop.running.client.get(url) as answer:
        lines = (await answer.text()).splitlines()
        assert answer.headers["Content-Disposition"] == 'attachment; filename="events.jsonl"'
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]
    async with shop.running.client.get(url, params={"type": "sale.1"}) as answer:
        assert len((await answer.text()).splitlines()) == len(ids) // 2
    async with shop.running.client.get(
        url, params={"reason": "x"}, headers={"Accept": "text/html"}
    ) as answer:
        assert (answer.status, "reason" in await answer.text()) == (400, True)


async def test_the_role_read_sees_no_action(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    tokens = 'operator: {{listen: "127.0.0.1:0", tokens: [{{name: ci, token: env:CI_TOKEN, role: read}}]}}'
    config = CONFIG.replace('operator: {{listen: "127.0.0.1:0"}}', tokens).format(url=destination.url)
    destination.always(status(410))
    async with run_gateway(config, **VALUES) as running:
        shop = Shop(running, destination)
        event_id = await shop.send(EXACT.encode())
        form = {"token": CI["Authorization"].removeprefix("Bearer "), "next": "/"}
        async with running.client.post(
            f"{running.operator_url}/login", data=form, allow_redirects=False
        ) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        for path in ("/events", f"/events/{event_id}"):
            async with running.client.get(running.operator_url + path, headers={"Cookie": cookie}) as answer:
                html = await answer.text()
            assert answer.status == 200
            assert event_id in html
            assert re.findall(r'action="([^"]+)"', html.replace('action="/logout"', "")) in (
                ["/events", "/events/selected"],
                [f"/events/{event_id}#curl"],
            )
            assert "data-replay" not in html
            assert 'type="checkbox"' not in html


async def test_attempts_that_are_not_kept_are_said_to_be_missing(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    retried = "ledger: {{url: '{url}', retry: {{first: 1ms, max: 1ms}}, breaker: {{failures: 1000}}}}"
    config = re.sub("ledger: .*", retried, CONFIG).format(url=destination.url)
    destination.script(*[status(503)] * 60)
    async with run_gateway(config.replace("[app, ledger]", "ledger")) as running:
        shop = Shop(running, destination)
        event_id = await shop.send(EXACT.encode())
        await shop.until(event_id, statuses(ledger="delivered"))
        words = (await look(running, f"/events/{event_id}")).words
    assert "Attempts 11 to 21 are not kept." in words
    assert "Attempts 4 to 56" in words
    assert "Attempt 60: error in the app, HTTP 503" in words
    assert "Attempt 61: accepted, HTTP 200" in words
