"""Schemes that sign the URL work behind a proxy that the provider knows under another name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from doubles.destination import ScriptedDestination
from gateways import RunGateway, Running

TOKEN = "an-auth-token-of-some-length"
FORM = "application/x-www-form-urlencoded"
CALL = {"CallSid": "CA1234567890ABCDE", "Caller": "+14158675309", "Digits": "1234", "CallStatus": "completed"}
PUBLIC = "https://hooks.example.com"


def config(url: str, extra: str = "") -> str:
    return f"""
server: {{listen: "127.0.0.1:0", public_url: "{PUBLIC}"{extra}}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  twilio: {{provider: twilio, secrets: env:TOKEN}}
  square: {{provider: square, secrets: env:TOKEN}}
  yard:
    verify:
      - {{type: allowlist, networks: [192.0.2.0/24]}}
      - {{type: token, header: X-Token}}
    secrets: env:TOKEN
    event: {{type: gate.opened, id: "{{body:id}}"}}
    dedupe: {{by: ["{{body:id}}"]}}
destinations:
  app: {{url: "{url}"}}
routes:
  - {{from: "*", to: app}}
"""


@asynccontextmanager
async def proxied(gateway: Running, client: str = "198.51.100.7") -> AsyncIterator[str]:
    """Run a proxy that forwards everything except the host, and adds the client's address."""

    async def forward(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        headers["X-Forwarded-For"] = f"203.0.113.99, {client}"
        headers["X-Forwarded-Proto"] = "https"
        body, url = await request.read(), gateway.url + request.raw_path
        async with gateway.client.post(url, data=body, headers=headers) as answer:
            return web.Response(body=await answer.read(), status=answer.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as answer:
        return answer.status


def twilio_signature(url: str, fields: Mapping[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), "sha1")).decode()


@pytest.mark.parametrize("host", [PUBLIC, PUBLIC + ":443"])
async def test_twilio_signs_the_public_url_with_its_port_or_without(
    run_gateway: RunGateway, destination: ScriptedDestination, host: str
) -> None:
    target = "/webhooks/twilio?shop=1&note=a%20b"
    headers = {"Content-Type": FORM, "X-Twilio-Signature": twilio_signature(host + target, CALL)}
    async with run_gateway(config(destination.url), TOKEN=TOKEN) as gateway, proxied(gateway) as proxy:
        assert await post(proxy + target, urlencode(CALL).encode(), headers) == 200
        assert await post(proxy + target + "x", urlencode(CALL).encode(), headers) == 401
        assert await post(proxy + target, urlencode(CALL | {"Digits": "9"}).encode(), headers) == 401
        (received,) = await destination.wait_for(1)

    assert json.loads(received.body)["data"] == CALL


async def test_twilio_signs_the_hash_of_a_json_body(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    body = b'{"CallSid": "CA1", "CallStatus": "completed"}'
    target = f"/webhooks/twilio?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Signature": twilio_signature(PUBLIC + target, {}),
    }
    async with run_gateway(config(destination.url), TOKEN=TOKEN) as gateway, proxied(gateway) as proxy:
        assert await post(proxy + target, body, headers) == 200
        assert await post(proxy + target, body + b" ", headers) == 401
        await destination.wait_for(1)


async def test_square_signs_the_public_url_and_the_body(
    run_gateway: RunGateway, destination: ScriptedDestination
) -> None:
    body = (
        b'{"merchant_id":"M","type":"payment.created","event_id":"e-1","created_at":"2026-01-15T10:30:00Z"}'
    )
    digest = hmac.digest(TOKEN.encode(), f"{PUBLIC}/webhooks/square".encode() + body, "sha256")
    headers = {
        "Content-Type": "application/json",
        "x-square-hmacsha256-signature": base64.b64encode(digest).decode(),
    }
    async with run_gateway(config(destination.url), TOKEN=TOKEN) as gateway, proxied(gateway) as proxy:
        assert await post(f"{proxy}/webhooks/square", body, headers) == 200
        assert await post(f"{proxy}/webhooks/square?x=1", body, headers) == 401
        await destination.wait_for(1)


@pytest.mark.parametrize(
    ("trusted", "client", "status"),
    [
        ("127.0.0.1", "192.0.2.7", 200),
        ("127.0.0.1", "198.51.100.7", 401),
        # Not trusted: the proxy's own address counts.
        ("10.0.0.1", "192.0.2.7", 401),
    ],
)
@pytest.mark.case("S-55")
async def test_an_allowlist_checks_the_rightmost_untrusted_address(
    run_gateway: RunGateway, destination: ScriptedDestination, trusted: str, client: str, status: int
) -> None:
    text = config(destination.url, f", trusted_proxies: [{trusted}]")
    async with run_gateway(text, TOKEN=TOKEN) as gateway, proxied(gateway, client) as proxy:
        assert await post(f"{proxy}/webhooks/yard", b'{"id": 1}', {"X-Token": TOKEN}) == status


@pytest.mark.case("S-55")
@pytest.mark.parametrize("trusted", ["10.0.0.1", "127.0.0.1"])
async def test_an_address_that_only_the_sender_claims_is_refused(
    run_gateway: RunGateway, destination: ScriptedDestination, trusted: str
) -> None:
    """Neither through headers that the proxy does not write, nor through more of those that it does."""
    text = config(destination.url, f", trusted_proxies: [{trusted}]")
    listed = "192.0.2.7"
    said = [
        {"X-Real-IP": listed, "Forwarded": f"for={listed}", "True-Client-IP": listed, "Client-IP": listed},
        {"X-Forwarded-For": f"{listed}, 198.51.100.7"},
        CIMultiDict([("X-Forwarded-For", listed), ("X-Forwarded-For", "198.51.100.7")]),
        CIMultiDict([("X-Forwarded-For", listed), ("X-Forwarded-For", "")]),
        {"X-Forwarded-For": f"{listed}\t198.51.100.7"},
    ]
    async with run_gateway(text, TOKEN=TOKEN) as gateway:
        for headers in said:
            given = CIMultiDict(headers, **{"X-Token": TOKEN})
            assert await post(f"{gateway.url}/webhooks/yard", b'{"id": 1}', given) == 401, headers
