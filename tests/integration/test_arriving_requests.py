"""What a source accepts is configured as docs/configuration.md shows: methods, encodings and forms."""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from doubles.destination import ScriptedDestination
from gateways import RunGateway, Running
from hmac_sources import hexdigest

brotli = import_module("brotli")
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


BODY = b'{"id": "1", "type": "cpu.high", "value": 1.50}'
LIMIT = 64 * 1024


@pytest.fixture
async def metrics(run_gateway: RunGateway, destination: ScriptedDestination) -> AsyncIterator[Running]:
    """Run the source that accepts compressed bodies."""
    config = documented(1, destination).replace("decode: true", "decode: true\n    max_body: 64KiB")
    async with run_gateway(config, METRICS_SECRET=KEY) as running:
        yield running


async def send(
    running: Running, body: bytes, coding: str, signed_body: bytes | None = None
) -> tuple[int, Any]:
    signature = signed(body if signed_body is None else signed_body)
    return await running.send(
        "metrics", body, {"X-Signature": signature, "Content-Encoding": coding}, chunked=True
    )


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-GZIP", gzip.compress(BODY[:5]) + gzip.compress(b"") + gzip.compress(BODY[5:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY, wbits=-15)),
        ("br", brotli.compress(BODY)),
        ("identity, deflate, UTF-8, gzip", gzip.compress(zlib.compress(BODY))),
    ],
)
async def test_a_compressed_body_is_decoded_and_stored_as_sent(
    metrics: Running, destination: ScriptedDestination, coding: str, sent: bytes
) -> None:
    assert (await send(metrics, sent, coding, b"{}"))[0] == 401
    status, answer = await send(metrics, sent, coding)
    assert (await send(metrics, gzip.compress(BODY, 1), "gzip"))[1] == answer | {"status": "duplicate"}

    assert status == 200
    event = await metrics.ask(f"/api/v1/events/{answer['id']}")
    assert base64.b64decode(event["body_base64"]) == sent
    (delivered,) = await destination.wait_for(1)
    assert b'"type":"cpu.high"' in delivered.body
    assert BODY in delivered.body
    assert metrics.gateway.ingest._bodies.held == 0


@pytest.mark.parametrize("spoil", [lambda sent: sent[:-9], lambda sent: sent + b"x", lambda _: b"plain"])
async def test_a_verified_body_that_can_not_be_decoded_is_kept_as_unreadable(
    metrics: Running, destination: ScriptedDestination, spoil: Callable[[bytes], bytes]
) -> None:
    sent = spoil(gzip.compress(BODY))

    status, answer = await send(metrics, sent, "gzip")

    assert status == 200
    assert (await metrics.ask(f"/api/v1/events/{answer['id']}"))["type"] == "gatehouse.unreadable"
    (delivered,) = await destination.wait_for(1)
    assert base64.b64encode(sent) in delivered.body


@pytest.mark.case("S-32")
@pytest.mark.parametrize(
    ("coding", "sent", "status"),
    [
        ("gzip", gzip.compress(bytes(LIMIT + 1)), 413),
        ("br", brotli.compress(bytes(10_000_000)), 413),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(10_000_000))), 413),
        ("gzip, gzip, gzip", b"x", 415),
        ("zstd", b"x", 415),
        ("gzip, compress", b"x", 415),
    ],
)
async def test_a_body_that_is_too_long_or_in_another_encoding_is_refused(
    metrics: Running, coding: str, sent: bytes, status: int
) -> None:
    assert (await send(metrics, sent, coding))[0] == status
    assert (await metrics.metrics())["gatehouse_events_total", "metrics"] == 0
    assert metrics.gateway.ingest._bodies.held == 0


async def test_signatures_can_cover_the_decoded_body(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = documented(1, destination).replace("decode: true", "decode: {verify: decoded}")
    raw = config.replace('url: "', 'format: raw, url: "')
    async with run_gateway(raw, METRICS_SECRET=KEY) as running:
        sent = gzip.compress(BODY)
        assert (await send(running, sent, "gzip"))[0] == 401
        assert (await send(running, b"plain", "gzip"))[0] == 400
        assert (await send(running, gzip.compress(bytes(2**20 + 1)), "gzip"))[0] == 413
        assert (await send(running, sent, "gzip", BODY))[0] == 200

        (delivered,) = await destination.wait_for(1)
        assert delivered.headers["Content-Encoding"] == "gzip"
        assert delivered.body == BODY  # aiohttp's server decoded it
        assert running.gateway.ingest._bodies.held == 0


ITEMS = b'{"items": [{"id": "1", "type": "a", "n": 1.0}, {"id": "2", "type": "b"}]}'


async def test_a_compressed_batch_is_split_and_each_item_is_stored_as_it_is(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    config = documented(1, destination).replace("event: {", 'event: {split: "{body:items}", ')
    config = config.replace('url: "', 'format: raw, url: "')
    async with run_gateway(config, METRICS_SECRET=KEY) as running:
        status, answer = await send(running, gzip.compress(ITEMS), "gzip")

        assert (status, len(answer["ids"])) == (200, 2)
        delivered = await destination.wait_for(2)
        assert {one.body for one in delivered} == {
            b'{"id": "1", "type": "a", "n": 1.0}',
            b'{"id": "2", "type": "b"}',
        }
        assert all("Content-Encoding" not in one.headers for one in delivered)


PAYLOAD = '{"event": "media.play", "Metadata": {"key": "/library/1", "rating": 7.50}}'
PICTURE = bytes(range(256))


def form(payload: str, *, twice: bool = False) -> bytes:
    """Write a multipart form with the fields and the picture that the example expects."""
    edge = b"--edge\r\nContent-Disposition: form-data; name="
    field = edge + b'"payload"\r\nContent-Type: application/json\r\n\r\n' + payload.encode() + b"\r\n"
    return (
        field * (2 if twice else 1)
        + edge
        + b'"server"\r\n\r\nattic\r\n'
        + edge
        + b'"thumb"; filename="thumb.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + PICTURE
        + b"\r\n--edge--\r\n"
    )


@pytest.mark.parametrize("raw", [False, True])
async def test_a_multipart_form_with_json_in_a_field_is_an_event(
    run_gateway: RunGateway, destination: ScriptedDestination, *, raw: bool
) -> None:
    config = documented(2, destination)
    config = config.replace('url: "', 'format: raw, url: "') if raw else config
    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    async with run_gateway(config, MEDIA_TOKEN=KEY) as running:
        assert (await running.send("media?token=wrong", form(PAYLOAD), kind))[0] == 401
        status, answer = await running.send(f"media?token={KEY}", form(PAYLOAD), kind)

        assert status == 200
        event = await running.ask(f"/api/v1/events/{answer['id']}")
        assert (event["type"], event["subject"], event["account"]) == ("media.play", "/library/1", "attic")
        assert base64.b64decode(event["body_base64"]) == form(PAYLOAD)
        (delivered,) = await destination.wait_for(1)
        if raw:
            assert delivered.body == form(PAYLOAD)
            assert delivered.headers["Content-Type"] == kind["Content-Type"]
        else:
            assert delivered.body.endswith(f'"data":{PAYLOAD}}}'.encode())


@pytest.mark.parametrize(
    ("body", "boundary"), [(form(PAYLOAD, twice=True), "edge"), (form(PAYLOAD), "other"), (b"{}", "edge")]
)
async def test_a_verified_multipart_body_that_is_no_clear_form_is_kept_as_unreadable(
    run_gateway: RunGateway, destination: ScriptedDestination, body: bytes, boundary: str
) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    async with run_gateway(documented(2, destination), MEDIA_TOKEN=KEY) as running:
        status, answer = await running.send(f"media?token={KEY}", body, kind)

        assert status == 200
        assert (await running.ask(f"/api/v1/events/{answer['id']}"))["type"] == "gatehouse.unreadable"
