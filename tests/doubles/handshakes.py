"""A gateway with a source for each provider that uses handshakes, and signed requests for it."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateways import Running

SECRET = "a-provider-secret-of-some-length"
TOKEN = "a-token-for-handshakes-of-thirty-two-bytes"
DISCORD = Ed25519PrivateKey.from_private_bytes(b"discord-signing-key-of-32-bytes!")
ENVIRONMENT = {
    "SECRET": SECRET,
    "TOKEN": TOKEN,
    "DISCORD": DISCORD.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
}
#: Asana and Notion have no secrets yet: the handshake brings them.
CONFIG = """
server: {listen: "127.0.0.1:0", public_url: "https://hooks.example.com"}
operator: {listen: "127.0.0.1:0"}
sources:
  slack: {provider: slack, secrets: env:SECRET}
  zoom: {provider: zoom, secrets: env:SECRET}
  meta: {provider: meta, secrets: env:SECRET, handshake_secrets: env:TOKEN}
  whatsapp: {provider: whatsapp, secrets: env:SECRET}
  x: {provider: x, secrets: env:SECRET}
  ms-graph: {provider: ms-graph, secrets: env:SECRET}
  dropbox: {provider: dropbox, secrets: env:SECRET}
  okta: {provider: okta, secrets: env:SECRET}
  asana: {provider: asana, secrets: env:ASANA}
  twitch: {provider: twitch, secrets: env:SECRET}
  event-grid: {provider: azure-event-grid, secrets: env:SECRET}
  discord: {provider: discord, secrets: env:DISCORD}
  xero: {provider: xero, secrets: env:SECRET}
  braintree: {provider: braintree, secrets: env:SECRET, values: {public_key: integration_public_key}}
  monday: {provider: monday, secrets: env:SECRET}
  notion: {provider: notion, secrets: env:NOTION}
  intercom: {provider: intercom, secrets: env:SECRET}
  nylas: {provider: nylas, secrets: env:SECRET}
  line: {provider: line, secrets: env:SECRET}
  hcp-terraform: {provider: hcp-terraform, secrets: env:SECRET}
  # Of these the handshakes alone are tested here: the signatures would need keys that the providers serve.
  ebay:
    provider: ebay
    verify: {type: token, header: X-Test-Token}
    secrets: env:SECRET
    handshake_secrets: env:TOKEN
  sns:
    provider: aws-sns
    values: {topic_arn: "arn:aws:sns:us-west-2:123456789012:MyTopic"}
    verify: {type: token, header: X-Test-Token}
    secrets: env:SECRET
"""


class FakeConfirm:
    """Replaces the provider's address for the confirmation."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.succeeds = True

    async def __call__(self, url: str) -> bool:
        self.urls.append(url)
        return self.succeeds


HANDED_OVER = (
    "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81",
    "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl",
)


class Answered:
    """An answer with its body."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = body

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    @property
    def text(self) -> str:
        assert self.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert self.headers["X-Content-Type-Options"] == "nosniff"
        return self.body.decode()


async def ask(
    running: Running,
    source: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Answered:
    url = f"{running.url}/webhooks/{source}"
    async with running.client.request(
        method, url, params=query, data=body or None, headers=headers
    ) as answer:
        return Answered(answer, await answer.read())


def mac(signed: bytes, digest: str = "sha256", key: bytes = SECRET.encode()) -> bytes:
    return hmac.new(key, signed, digest).digest()


def by_slack(body: bytes, name: str = "X-Slack") -> dict[str, str]:
    now = str(int(time.time()))
    signature = "v0=" + mac(f"v0:{now}:".encode() + body).hex()
    return {
        "Content-Type": "application/json",
        f"{name}-Request-Timestamp": now,
        f"{name}-Signature": signature,
    }


def by_discord(body: bytes) -> dict[str, str]:
    now = str(int(time.time()))
    signature = DISCORD.sign(now.encode() + body).hex()
    return {
        "Content-Type": "application/json",
        "X-Signature-Timestamp": now,
        "X-Signature-Ed25519": signature,
    }


async def handshakes_of(running: Running, source: str) -> float:
    return (await running.metrics())["gatehouse_requests_total", "handshake", source]
