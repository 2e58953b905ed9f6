"""`type: any` accepts what one of its verifiers accepts. Otherwise it reports the most informative reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import SecretError, Secrets
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000
OLD, NEW = "the-old-secret-of-16", "the-new-secret-of-16"
WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()

HEX = {"type": "hmac", "signature": {"header": "X-Sig"}}
TIMED = {
    "type": "hmac",
    "signature": {"header": "X-Timed", "format": "pairs", "key": "s"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}


def verification(*verifiers: dict[str, Any], secrets: Any = ("env:NEW",)) -> Verification:
    config = SourceConfig.model_validate(
        {"verify": {"type": "any", "of": verifiers}, "secrets": secrets, "event": {"type": "x"}}
    )
    return build_verification(config, Secrets(Path(), {"OLD": OLD, "NEW": NEW, "WHSEC": WHSEC}))


def request(body: bytes = b"{}", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", "/webhooks/a", "", CIMultiDict(named), body)


def signature(message: bytes, secret: bytes = NEW.encode()) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def refusal_reason(checked: Verification, asked: Request) -> str:
    with pytest.raises(VerificationError) as caught:
        checked.verify(asked, NOW)
    return caught.value.reason


def test_a_later_verifier_of_the_same_header_may_pass() -> None:
    both = verification(HEX | {"secrets": "env:OLD"}, HEX)

    both.verify(request(X_Sig=signature(b"{}")), NOW)
    both.verify(request(X_Sig=signature(b"{}", OLD.encode())), NOW)


def test_the_facts_of_a_verifier_that_refused_are_discarded() -> None:
    stamped = TIMED | {"id": "{header:X-Id}", "signed": "{id}.{timestamp}.{body}"}
    asked = request(X_Timed=f"t={NOW},s={'0' * 64}", X_Id="forged", X_Sig=signature(b"{}"))

    assert verification(stamped, HEX).verify(asked, NOW).facts == {"signed": b"{}"}


@pytest.mark.parametrize("order", [(HEX, TIMED), (TIMED, HEX)])
@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "missing_signature"),
        ({"X_Sig": "0" * 64}, "wrong_signature"),
        ({"X_Timed": f"t={NOW - 900},s={'0' * 64}"}, "stale_timestamp"),
        ({"X_Timed": "nothing", "X_Sig": "0" * 64}, "wrong_signature"),
        ({"X_Sig": "short"}, "malformed_signature"),
    ],
)
def test_the_most_informative_reason_is_reported_in_any_order(
    order: tuple[dict[str, Any], ...], headers: dict[str, str], told: str
) -> None:
    assert refusal_reason(verification(*order), request(b"{}", **headers)) == told


def test_each_verifier_reads_only_its_own_headers() -> None:
    def verifier_of(prefix: str) -> dict[str, Any]:
        return {
            "type": "hmac",
            "signature": {"header": f"{prefix}-Sig"},
            "id": f"{{header:{prefix}-Id}}",
            "signed": "{id}.{body}",
        }

    checked = verification(verifier_of("A"), verifier_of("B"))
    signed = signature(b"1.{}")

    checked.verify(request(A_Sig=signed, A_Id="1"), NOW)
    both = request(A_Sig=signed, A_Id="1", B_Sig=signature(b"2.{}"), B_Id="2")
    assert checked.verify(both, NOW).facts["id"] == b"1"
    made_up = request(A_Sig="0" * 64, A_Id="1", B_Sig=signature(b"2.{}"), B_Id="2")
    assert checked.verify(made_up, NOW).facts["id"] == b"2"
    assert refusal_reason(checked, request(A_Sig=signed, B_Id="1")) == "missing_signature"
    assert refusal_reason(checked, request(A_Sig=signed, A_Id="2", B_Id="1")) == "wrong_signature"


def test_sign_uses_the_first_verifier_that_can_sign() -> None:
    key = "BAsjbZ8hOqjD6lD3d8wGDBpmAKpTVVLCSoxVVDUX2NA="
    public = {"type": "ed25519", "key": "base64", "signature": {"header": "X-Ed", "encoding": "base64"}}
    config = SourceConfig.model_validate(
        {
            "verify": {"type": "any", "of": ({**public, "secrets": "env:KEY"}, HEX)},
            "secrets": "env:NEW",
            "event": {"type": "x"},
        }
    )
    checked = build_verification(config, Secrets(Path(), {"KEY": key, "NEW": NEW}))

    checked.verify(checked.sign(request(b"{}"), NOW), NOW)


@pytest.mark.parametrize("key", [b"k" * 24, WHSEC.encode()], ids=["whsec", "utf8"])
def test_each_secret_is_tried_with_each_key_encoding(key: bytes) -> None:
    checked = verification(HEX | {"key": ("whsec", "utf8")}, secrets=("env:OLD", "env:WHSEC"))

    checked.verify(request(X_Sig=signature(b"{}", key)), NOW)
    checked.verify(request(X_Sig=signature(b"{}", OLD.encode())), NOW)


def test_a_secret_that_fits_no_key_encoding_is_an_error() -> None:
    with pytest.raises(SecretError, match=r"env:OLD.*key: hex or whsec"):
        verification(HEX | {"key": ("hex", "whsec")}, secrets=("env:OLD",))
