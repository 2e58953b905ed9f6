"""Handshakes compiled from a config, and requests for them."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from urllib.parse import quote

from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from gatehouse.verify.build import build_handshakes
from gatehouse.verify.handshake import Handshakes, Reply

SECRET = "a-secret-that-signs-events"
TOKEN = "a-verify-token"
ENVIRONMENT = {"SECRET": SECRET, "TOKEN": TOKEN, "OLD": "an-older-token"}
ECHO = '{name: echo, method: GET, challenge: "{query:c}", answer: {text: "{challenge}"}}'
CRC = """{name: CRC, method: GET, challenge: "{query:crc_token}", form: "[A-Za-z0-9_=-]{1,128}",
          proof: {type: hmac, encoding: base64}, answer: {json: {response_token: "sha256={proof}"}}}"""
ZOOM = """{name: endpoint.url_validation, when: {"{body:event}": endpoint.url_validation},
           challenge: "{body:payload.plainToken}", form: "[A-Za-z0-9_-]{1,128}", proof: {type: hmac},
           answer: {json: {plainToken: "{challenge}", encryptedToken: "{proof}"}}}"""
HUB = """{name: hub.challenge, method: GET, when: {"{query:hub.mode}": subscribe},
          token: "{query:hub.verify_token}", challenge: "{query:hub.challenge}",
          answer: {text: "{challenge}"}}"""
HOOK_SECRET = """{name: X-Hook-Secret, when: {"{header:X-Hook-Secret}": "*"}, verified: false,
                  show: "{header:X-Hook-Secret}", challenge: "{header:X-Hook-Secret}",
                  answer: {headers: {X-Hook-Secret: "{challenge}"}}}"""
CONFIRM = """{name: SubscriptionConfirmation, when: {"{body:Type}": SubscriptionConfirmation},
              confirm: "{body:SubscribeURL}",
              confirm_hosts: "sns[.][a-z0-9-]+[.]amazonaws[.]com([.]cn)?"}"""


def handshakes(
    *entries: str,
    verify: str = "{type: hmac, signature: {header: X-Signature}}",
    more: str = "",
    environment: dict[str, str] | None = None,
    public_url: str = "https://hooks.example.com",
) -> Handshakes:
    """Compile handshakes, as a source has them."""
    listed = "".join(f"\n      - {entry}" for entry in entries)
    text = f"""
server: {{public_url: "{public_url}"}}
sources:
  a:
    verify: {verify}
    secrets: env:SECRET
    event: {{type: "{{body:type}}"}}
    {more}
    handshakes:{listed}
"""
    given_environment = ENVIRONMENT if environment is None else environment
    built = build_handshakes(parse(text).config.sources["a"], Secrets(Path(), given_environment))
    assert built is not None
    return built


def request(
    method: str = "POST",
    *,
    query: str = "",
    body: bytes = b"",
    public_url: str = "https://hooks.example.com",
    headers: dict[str, str] | None = None,
) -> Request:
    return Request(method, "/webhooks/a", query, CIMultiDict(headers or {}), body, public_url)


def get(**query: str) -> Request:
    return request("GET", query="&".join(f"{name}={quote(value)}" for name, value in query.items()))


def posted(**fields: object) -> VerifiedRequest:
    body = json.dumps(fields).encode()
    return VerifiedRequest(request(body=body), {"signed": b"v0:1700000000:" + body})


def answered(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


def mac(text: str, digest: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text.encode(), digest).digest()


EBAY = """{name: challenge_code, method: GET, challenge: "{query:challenge_code}",
           proof: {type: hash, of: "{challenge}{token}{url}"},
           answer: {json: {challengeResponse: "{proof}"}}}"""
