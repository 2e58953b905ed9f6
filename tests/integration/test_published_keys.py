"""A gateway verifies requests with keys that it fetches from the provider."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from doubles.destination import ScriptedDestination
from doubles.key_server import HOST, URL, key, serving
from doubles.keys import certificate, ec_key, rsa_key
from gatehouse.config.load import parse
from gatehouse.gateway.app import Gateway
from gatehouse.language.times import rfc3339
from gatehouse.verify.remote_keys import RemoteKeys
from gateways import SIGNING_SECRET, Running
from jwts import jwk, signed_token

TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
CONFIG = """
server: {{listen: "127.0.0.1:0", trusted_proxies: [127.0.0.1]}}
operator: {{listen: "127.0.0.1:0"}}
sources:
  orders:
    verify: {{type: aws-sns, topic_arn: "{topic}"}}
    event: {{id: "{{body:MessageId}}", type: "{{body:Type}}", data: "{{body}}"}}
    dedupe: {{by: ["{{body:MessageId}}"]}}
destinations:
  app: {{url: "{url}", secret: env:SIGNING}}
routes:
  - {{from: "*", to: app}}
"""


@asynccontextmanager
async def gateway(folder: Path, keys: RemoteKeys, url: str, text: str = "") -> AsyncIterator[Running]:
    loaded = parse(text or CONFIG.format(topic=TOPIC, url=url), directory=folder)
    async with (
        Gateway(loaded, environment={"SIGNING": SIGNING_SECRET}, remote_keys=keys) as running,
        aiohttp.ClientSession() as client,
    ):
        yield Running(running, client)
    await asyncio.sleep(0)


def notification(message_id: str = "m1", url: str = URL) -> bytes:
    """Create a notification, signed as SNS signs it."""
    members = {"Message": "hello", "MessageId": message_id, "Timestamp": rfc3339(time.time())}
    members |= {"TopicArn": TOPIC, "Type": "Notification"}
    text = "".join(f"{name}\n{value}\n" for name, value in members.items())
    signature = rsa_key().sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    members |= {
        "Signature": base64.b64encode(signature).decode(),
        "SignatureVersion": "2",
        "SigningCertURL": url,
    }
    return json.dumps(members).encode()


async def test_a_gateway_accepts_a_request_signed_with_a_fetched_certificate(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    now = time.time()
    pem = certificate(
        rsa_key().public_key(),
        "sns.amazonaws.com",
        issuer=ec_key("authority"),
        since=now - 99,
        until=now + 99,
    )
    async with (
        serving(tmp_path) as (server, keys, _),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = key(pem)
        assert (await running.send("orders", notification(), {}))[0] == 200
        assert (await running.send("orders", notification("m2"), {}))[0] == 200
        assert len(server.asked) == 1
        await destination.wait_for(2)

        forged = notification().replace(b"hello", b"hullo")
        assert (await running.send("orders", forged, {}))[0] == 401
        elsewhere = notification("m3", "https://evil.example/SimpleNotificationService-1.pem")
        assert (await running.send("orders", elsewhere, {}))[0] == 401
        assert len(server.asked) == 1

        scraped = await running.metrics()
        assert scraped["gatehouse_verification_failures_total", "wrong_credentials", "orders"] == 1


async def test_a_gateway_that_cannot_fetch_a_certificate_answers_503(
    tmp_path: Path, destination: ScriptedDestination, logged: io.StringIO
) -> None:
    async with (
        serving(tmp_path) as (server, keys, _),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = key(b"", 500)
        status, answer = await running.send("orders", notification(), {})

        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert (await running.metrics())["gatehouse_events_total", "orders"] == 0
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["reason"] for line in lines if line["event"] == "request.rejected"] == ["keys"]
    assert [line["host"] for line in lines if line["event"] == "keys.unavailable"] == [HOST]


def made_up(number: int) -> str:
    return f"https://{HOST}/SimpleNotificationService-{number:032x}.pem"


@pytest.mark.case("F-09")
@pytest.mark.parametrize("sender", ["198.51.100.1", "203.0.113.9"], ids=["the flood's", "another"])
async def test_a_flood_of_made_up_urls_does_not_block_a_genuine_key(
    sender: str, tmp_path: Path, destination: ScriptedDestination
) -> None:
    """61 made-up URLs per second and one genuine request, even if all come from the same sender."""
    now = time.time()
    made = partial(certificate, issuer=ec_key("authority"), since=now - 99, until=now + 99)
    pem = made(rsa_key().public_key(), "sns.amazonaws.com")

    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        return await (key(pem) if URL.endswith(asked.path) else key(b"no", 404))(asked)

    async with (
        serving(tmp_path) as (server, keys, setting),
        gateway(tmp_path, keys, destination.url) as running,
    ):
        server.answer = answer
        genuine, junk = [], []
        for number in range(1, 15 * 61):
            setting.now += 1 / 61
            forged = notification(f"j{number}", made_up(number))
            junk.append((await running.send("orders", forged, {"X-Forwarded-For": "198.51.100.1"}))[0])
            if number % 61 == 0:
                sent = notification(f"m{number}")
                genuine.append((await running.send("orders", sent, {"X-Forwarded-For": sender}))[0])

    assert set(junk) == {401, 503}
    # The key is fetched once another sender requests it, or when it is requested again after a few seconds.
    assert genuine.index(200) <= (4 if sender == "198.51.100.1" else 0)
    assert set(genuine[genuine.index(200) :]) == {200}
    assert len(server.asked) < 90


async def test_a_key_that_cannot_be_fetched_does_not_block_a_request_that_another_verifier_accepts(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    sns = f'{{type: aws-sns, topic_arn: "{TOPIC}"}}'
    basic = "{type: basic, secrets: env:SIGNING, username: sns}"
    with_key: dict[str, str] = {}
    without = {"Authorization": "Basic " + base64.b64encode(f"sns:{SIGNING_SECRET}".encode()).decode()}
    for order in (f"[{sns}, {basic}]", f"[{basic}, {sns}]"):
        text = CONFIG.format(topic=TOPIC, url=destination.url)
        text = text.replace(sns, f"{{type: any, of: {order}}}")
        async with serving(tmp_path) as (server, keys, _), gateway(tmp_path, keys, "", text) as running:
            server.answer = key(b"", 500)
            assert (await running.send("orders", notification("m1"), with_key))[0] == 503
            assert (await running.send("orders", notification("m2"), without))[0] == 200
            assert (await running.send("orders", b"{}", with_key))[0] == 401


async def test_forged_key_ids_of_a_detached_signature_cause_few_fetches(
    tmp_path: Path, destination: ScriptedDestination
) -> None:
    """The documented source, with the key server as TrueLayer's host."""
    docs = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    start = docs.index("  bank-payments:\n    verify: {type: truelayer")
    source = docs[start : docs.index("```", start)]
    published = f"https://{HOST}/.well-known/jwks"
    assert source.count("https://webhooks.truelayer.com/.well-known/jwks") == 1
    text = CONFIG.format(topic=TOPIC, url=destination.url).replace(
        "destinations:",
        source.replace("https://webhooks.truelayer.com/.well-known/jwks", published) + "destinations:",
    )
    private = ec_key("truelayer", ec.SECP521R1)
    key_set = {"keys": [jwk(private.public_key(), kid="k", alg="ES512")]}
    path, body, sent_at = (
        "/webhooks/bank-payments-0f6c1d7e5a3b4928",
        b'{"type":"a","event_id":"e"}',
        time.time(),
    )

    def signed(kid: str) -> dict[str, str]:
        names = "X-TL-Webhook-Timestamp"
        content = f"POST {path}\n{names}: {rfc3339(sent_at)}\n".encode() + body
        header = {"alg": "ES512", "kid": kid, "tl_version": "2", "tl_headers": names, "jku": published}
        head, _, end = signed_token(content, "ES512", private, typ=None, **header).split(".")
        return {"Tl-Signature": f"{head}..{end}", names: rfc3339(sent_at)}

    async with (
        serving(tmp_path) as (server, keys, setting),
        gateway(tmp_path, keys, destination.url, text) as running,
    ):
        server.answer = key(json.dumps(key_set).encode())
        name = path.rpartition("/")[2]
        assert (await running.send(name, body, signed("k")))[0] == 200
        await destination.wait_for(1)
        for fetches in (1, 2):  # one for the first key, and then one in ten seconds
            for number in range(20):
                assert (await running.send(name, body, signed(f"forged-{number}")))[0] == 401
            assert len(server.asked) == fetches
            setting.now += 11
