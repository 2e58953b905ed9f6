"""What a source accepts is configured as docs/configuration.md shows: the methods of its requests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doubles.destination import ScriptedDestination
from gateways import RunGateway, Running
from hmac_sources import hexdigest

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
SECTION = PAGE.split("### What arrives\n")[1].split("\n## ")[0]
KEY = "a-key-of-more-than-16-bytes"
LISTENERS = """
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
"""


def documented(number: int, destination: ScriptedDestination) -> str:
    """Return a config with the sources of an example of the page."""
    example: str = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)[number]
    routes = f'destinations:\n  app: {{url: "{destination.url}"}}\nroutes: [{{from: "*", to: app}}]\n'
    return LISTENERS + example + routes


def signed(body: bytes) -> str:
    return hexdigest(body, KEY)


async def ask(running: Running, method: str, body: bytes, **headers: str) -> tuple[int, str | None]:
    url = f"{running.url}/webhooks/inventory"
    async with running.client.request(method, url, data=body, headers=headers) as answer:
        return answer.status, answer.headers.get("Allow")


async def test_a_source_accepts_the_methods_that_it_lists(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    body = b'{"id": "1", "type": "stock.changed"}'
    async with run_gateway(documented(0, destination), INVENTORY_SECRET=KEY) as running:
        good = {"X-Signature": signed(b"PUT." + body)}
        assert await ask(running, "PUT", body, **good) == (200, None)
        assert (await ask(running, "POST", body, **good))[0] == 401
        assert await ask(running, "PATCH", body, **good) == (405, "POST, PUT")
        assert await ask(running, "HEAD", b"", **good) == (405, "POST, PUT")

        (event,) = await destination.wait_for(1)
        assert b'"type":"stock.changed"' in event.body


HANDSHAKES = """
sources:
  inventory:
    methods: [PUT]
    verify: {type: token, header: X-Token}
    secrets: env:INVENTORY_SECRET
    event: {type: "{body:type}"}
    handshakes:
      - {name: echo, method: GET, challenge: "{query:c}", answer: {text: "{challenge}"}}
      - {name: ping, method: POST, when: {"{body:type}": ping}, answer: {status: 204}}
"""


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("PUT", b'{"type": "stock.changed"}', 200),
        ("POST", b'{"type": "ping"}', 204),
        ("POST", b'{"type": "stock.changed"}', 400),
        ("GET", b"", 400),
        ("PATCH", b"{}", 405),
    ],
)
async def test_a_method_of_a_handshake_brings_no_events(
    run_gateway: RunGateway, method: str, body: bytes, status: int
) -> None:
    async with run_gateway(LISTENERS + HANDSHAKES, INVENTORY_SECRET=KEY) as running:
        answered, allow = await ask(running, method, body, **{"X-Token": KEY})

        assert answered == status
        assert allow == ("PUT, GET, POST" if status == 405 else None)
        assert (await running.metrics())["gatehouse_events_total", "inventory"] == (method == "PUT")
