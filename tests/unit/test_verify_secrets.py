"""The position of the secret that verified a request. It shows when a rotation is complete."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse.config.load import parse
from gatehouse.config.secrets import Secrets
from gatehouse.ingest.source import Source
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest
from gatehouse.verify.verified_by import scheme_and_secret
from verifying import NOW

pytestmark = pytest.mark.case("F-59")

SECRETS = {name: f"{name}-secret-of-16-bytes" for name in "ABCD"}
HMAC = {"type": "hmac", "signature": {"header": "X-Sig"}}


def source(verify: Any, secrets: Any = ("env:A", "env:B"), **settings: Any) -> Source:
    entry = {"verify": verify, "event": {"type": "x"}, "secrets": secrets} | settings
    loaded = parse(json.dumps({"sources": {"it": {k: v for k, v in entry.items() if v is not None}}}))
    made = Source("it", loaded.config.sources["it"], loaded.config, Secrets(Path(), SECRETS))
    assert made.not_ready is None
    return made


def verified(of: Source, headers: dict[str, str], body: bytes = b"{}") -> VerifiedRequest:
    return of.verification.verify(Request("POST", "/", "", CIMultiDict(headers), body), NOW)


def signature(secret: str, body: bytes = b"{}") -> str:
    return hmac.new(SECRETS[secret].encode(), body, hashlib.sha256).hexdigest()


def basic(secret: str) -> str:
    return "Basic " + base64.b64encode(f"u:{SECRETS[secret]}".encode()).decode()


def test_the_position_is_the_one_in_the_configured_list() -> None:
    of = source(HMAC)

    assert of.secrets == ("env:A", "env:B")
    assert [verified(of, {"X-Sig": signature(secret)}).secret for secret in "AB"] == [1, 2]


def test_a_secret_that_is_listed_twice_has_one_position() -> None:
    of = source(HMAC, ("env:A", "env:A", "env:B"))

    assert of.secrets == ("env:A", "env:B")
    assert [verified(of, {"X-Sig": signature(secret)}).secret for secret in "AB"] == [1, 2]


def test_a_secret_with_two_key_encodings_has_one_position() -> None:
    of = source(HMAC | {"key": ("sha1", "utf8")})
    hashed = hmac.new(
        hashlib.sha1(SECRETS["B"].encode(), usedforsecurity=False).digest(), b"{}", hashlib.sha256
    ).hexdigest()

    assert [verified(of, {"X-Sig": one}).secret for one in (signature("B"), hashed)] == [2, 2]


@pytest.mark.parametrize(
    ("verify", "header"),
    [
        ({"type": "token", "header": "X-Token"}, lambda secret: {"X-Token": SECRETS[secret]}),
        ({"type": "basic", "username": "u"}, lambda secret: {"Authorization": basic(secret)}),
    ],
)
def test_tokens_and_passwords_have_positions_too(verify: Any, header: Any) -> None:
    assert [verified(source(verify), header(secret)).secret for secret in "AB"] == [1, 2]


def test_the_own_secrets_of_a_verifier_follow_those_of_the_source() -> None:
    own = HMAC | {"signature": {"header": "X-Own"}, "secrets": ("env:C", "env:B")}
    of = source({"type": "any", "of": (own, HMAC)})

    assert of.secrets == ("env:A", "env:B", "env:C")
    assert [verified(of, {"X-Own": signature(secret)}).secret for secret in "CB"] == [3, 2]
    assert verified(of, {"X-Sig": signature("A")}).secret == 1


def test_with_several_verifiers_each_position_is_reported() -> None:
    of = source((HMAC, {"type": "basic", "username": "u", "secrets": ("env:C", "env:D")}))
    made = verified(of, {"X-Sig": signature("B"), "Authorization": basic("D")})

    assert of.secrets == ("env:A", "env:B", "env:C", "env:D")
    assert (made.secret, made.other_secrets) == (2, (4,))


def test_a_request_says_by_which_scheme_and_secret_it_was_verified() -> None:
    listed = source(HMAC)
    sha1 = HMAC | {"digest": "sha1"}
    alternatives = source({"type": "any", "of": (sha1, HMAC, {"type": "allowlist", "networks": ("::1",)})})
    several = source((HMAC, {"type": "basic", "username": "u", "secrets": ("env:C", "env:B")}))
    nothing = source({"type": "none", "insecure": True}, None)
    both = {"X-Sig": signature("B")}

    assert [verified(listed, {"X-Sig": signature(one)}).verified_by for one in "AB"] == [
        "HMAC-SHA256 with env:A",
        "HMAC-SHA256 with env:B",
    ]
    assert verified(alternatives, both).verified_by == "HMAC-SHA256 with env:B"
    assert verified(alternatives, both).facts == verified(listed, both).facts
    from_here = Request("POST", "/", "", CIMultiDict(), b"{}", client="::1")
    assert alternatives.verification.verify(from_here, NOW).verified_by == "address"
    by_both = [verified(several, both | {"Authorization": basic(one)}).verified_by for one in "CB"]
    assert by_both == ["HMAC-SHA256 and Basic with env:B, env:C", "HMAC-SHA256 and Basic with env:B"]
    assert [scheme_and_secret(text or "") for text in by_both] == [
        ("HMAC-SHA256 and Basic", "env:B, env:C"),
        ("HMAC-SHA256 and Basic", "env:B"),
    ]
    assert verified(nothing, {}).verified_by == "nothing"
    assert scheme_and_secret("nothing") == ("nothing", None)


def test_with_separately_signed_items_the_highest_position_is_reported() -> None:
    of = source(
        HMAC | {"signature": {"body": "sig"}, "signed": "{body:n}", "each": "l"},
        event={"type": "x", "split": "{body:l}"},
    )
    items = [{"n": n, "sig": signature(s, str(n).encode())} for n, s in enumerate("AB")]

    assert verified(of, {}, json.dumps({"l": items}).encode()).secret == 2


@pytest.mark.parametrize(
    "verify", [{"type": "none", "insecure": True}, {"type": "allowlist", "networks": ("0.0.0.0/0",)}]
)
def test_a_verifier_without_secrets_reports_no_position(verify: Any) -> None:
    of = source(verify, None)
    request = Request("POST", "/", "", CIMultiDict(), b"{}", client="192.0.2.1")

    assert of.secrets == ()
    assert of.verification.verify(request, NOW).secret == 0
