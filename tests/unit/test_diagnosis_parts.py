"""Findings have parts: what was expected and received, the key to change, and whether that is certain."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.diagnosis.before_verification import about_error
from gatehouse.diagnosis.finding import Finding, limit_for
from gatehouse.errors import (
    BodyTooLargeError,
    MethodNotAllowedError,
    RequestRejectedError,
    RequestTimeoutError,
    UnsupportedEncodingError,
)
from refusals import (
    BODY,
    COMPACT,
    NOW,
    PLAIN,
    SECRET,
    TIMED,
    URL,
    acme,
    digest,
    explained,
    known,
    request,
    settings,
)

VERIFY = "sources.acme.verify"
SECRETS = "sources.acme.secrets: env:S0"
OTHER = "another-secret-of-16-bytes"
PAIRS = "t=1,v1=" + digest(b"1." + BODY).hex()


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


BASIC = {"type": "basic", "username": "shop"}
TOKEN = {"type": "token", "header": "X-Token"}
ALLOWED = {"type": "allowlist", "networks": ("192.0.2.0/24", "198.51.100.7")}


@pytest.mark.parametrize(
    ("verify", "headers", "parts"),
    [
        (PLAIN, {}, ("the header X-Acme-Signature", "missing", None, True)),
        (PLAIN, {"X-Acme-Signature": ""}, ("the header X-Acme-Signature", "empty", None, True)),
        (
            PLAIN,
            CIMultiDict([("X-Acme-Signature", "a"), ("X-Acme-Signature", "b")]),
            ("the header X-Acme-Signature once", "twice", None, True),
        ),
        (
            PLAIN,
            acme(BODY, name="sha1"),
            ("digest: sha256", "digest: sha1", f"{VERIFY}.digest: sha1", True),
        ),
        (
            PLAIN,
            {"X-Acme-Signature": base64.b64encode(digest(BODY)).decode()},
            (
                *("signature: {encoding: hex}", "signature: {encoding: base64}"),
                *(f"{VERIFY}.signature: {{encoding: base64}}", True),
            ),
        ),
        (
            PLAIN,
            {"X-Acme-Signature": base64.b64encode(digest(BODY, name="sha1")).decode()},
            (
                "digest: sha256 and signature: {encoding: hex}",
                "digest: sha1 and signature: {encoding: base64}",
                f"{VERIFY}.digest: sha1\n{VERIFY}.signature: {{encoding: base64}}",
                True,
            ),
        ),
        (
            PLAIN,
            {"X-Acme-Signature": "ab" * 20},
            (
                *("64 characters (sha256 in hex)", "40 characters (the length of sha1 in hex)"),
                *(f"{VERIFY}.digest: sha1", True),
            ),
        ),
        (PLAIN, acme(BODY, OTHER), (None, None, SECRETS, False)),
        (PLAIN, acme(COMPACT), (None, None, None, True)),
        (
            URL,
            acme(b"https://h.example:8080/webhooks/acme" + BODY),
            (
                *("server.public_url: https://h.example", "signed for https://h.example:8080"),
                *("server.public_url: https://h.example:8080", True),
            ),
        ),
        (
            TIMED,
            acme(BODY),
            ("a timestamp in the header X-Acme-Time", "missing", f"{VERIFY}.timestamp", True),
        ),
        (
            TIMED,
            acme(f"{NOW * 1000:.0f}.".encode() + BODY) | {"X-Acme-Time": f"{NOW * 1000:.0f}"},
            ("unit: s", "unit: ms", f"{VERIFY}.timestamp.unit: ms", True),
        ),
        (
            PLAIN | {"signed": "{header:X-Part}{body}"},
            acme(BODY),
            ("{header:X-Part}", "missing", None, True),
        ),
        (BASIC, basic("shop:wrong-password"), ("the password of env:S0", "another password", SECRETS, True)),
        (
            BASIC,
            basic("user:wrong-password"),
            (f"the user name in {VERIFY}", "another user name", f"{VERIFY}.username", True),
        ),
        (
            BASIC,
            {"Authorization": "Bearer x"},
            ("Authorization: Basic …", "Authorization: Bearer …", None, True),
        ),
        (BASIC, {"Authorization": "a-credential"}, ("Authorization: Basic …", "something else", None, True)),
        (TOKEN, {"X-Token": "wrong"}, (None, None, SECRETS, True)),
        (
            ALLOWED,
            {},
            (
                *("an address in 192.0.2.0/24, 198.51.100.7", "10.0.0.9"),
                *(f"{VERIFY}.networks", True),
            ),
        ),
    ],
    ids=str,
)
def test_the_first_finding_has_its_parts(
    verify: dict[str, Any], headers: Any, parts: tuple[str | None, str | None, str | None, bool]
) -> None:
    assert explained(verify, request(headers)).explained[0][1:] == parts


def test_a_header_that_may_be_the_signature_is_a_possible_cause() -> None:
    found = explained(PLAIN, request({"X-Acme-Hmac": "ab"})).explained[1]
    assert found[1:] == (
        *("the header X-Acme-Signature", "the header X-Acme-Hmac"),
        *(f"{VERIFY}.signature: {{header: X-Acme-Hmac}}", False),
    )


def test_a_secret_of_another_source_is_named() -> None:
    other = known("other", settings(PLAIN), OTHER)
    found = explained(PLAIN, request(acme(BODY, OTHER)), others=(other,)).explained[0]
    assert found[1:] == ("a secret of acme", "a secret of other", None, True)


def test_the_key_of_a_verifiers_own_secret_is_named() -> None:
    verify = [PLAIN | {"secrets": ("env:S0",)}]
    assert isinstance(settings(*verify), SourceConfig)
    found = explained(verify, request(acme(BODY, OTHER)))
    assert found.explained[0].change == f"{VERIFY}.secrets: env:S0"


def test_two_secrets_are_a_list() -> None:
    found = explained(PLAIN, request(acme(BODY, "a-third-secret-of-16-bytes")), SECRET, OTHER)
    assert found.explained[0].change == "sources.acme.secrets: [env:S0, env:S1]"


@pytest.mark.parametrize(
    ("error", "asked", "parts"),
    [
        (MethodNotAllowedError("only POST is served here"), {"method": "PUT"}, ("POST", "PUT", None)),
        (
            BodyTooLargeError("the body is longer than 10 bytes"),
            {"body": b"", "headers": CIMultiDict({"Content-Length": "4096"})},
            ("at most 10 bytes", "4096 bytes (Content-Length)", "sources.shop.max_body"),
        ),
        (
            BodyTooLargeError("the body has 11 bytes, but `max_body` is 10 bytes"),
            {"body": b"x" * 11},
            ("at most 10 bytes", "11 bytes", "sources.shop.max_body"),
        ),
        (
            UnsupportedEncodingError("send the body without Content-Encoding"),
            {"headers": CIMultiDict({"Content-Encoding": "gzip\x1b" + "x" * 100})},
            ("no header Content-Encoding", "Content-Encoding: gzip\\x1b" + "x" * 55, "sources.shop.decode"),
        ),
        (RequestTimeoutError("the body took too long to arrive"), {}, (None, None, None)),
    ],
    ids=str,
)
def test_a_refusal_before_the_verification_has_its_parts(
    error: RequestRejectedError, asked: dict[str, Any], parts: tuple[str | None, str | None, str | None]
) -> None:
    found = about_error(error, msgspec.structs.replace(request({}), **asked), "shop", 10)
    assert found == Finding(f"{error.message[0].upper()}{error.message[1:]}.", *parts)


@pytest.mark.parametrize(
    ("age", "written"), [(1, "a: 5m"), (300, "a: 10m"), (812, "a: 15m"), (3599, "a: 1h"), (3600, "a")]
)
def test_the_next_usual_limit_is_named_but_none_over_an_hour(age: float, written: str) -> None:
    assert limit_for("a", age) == written
