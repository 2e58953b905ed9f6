"""Details from the documentation of the first five providers."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from multidict import CIMultiDict

from gatehouse.config.secrets import Secrets
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.build import build_verification
from presets import FILES, loaded, source

E_INVOICE = FILES["e-invoice-be"].vectors[0]
MANDATO = FILES["mandato"].vectors[0]


def with_body(body: bytes) -> Request:
    return msgspec.structs.replace(E_INVOICE.request(), body=body)


def test_e_invoice_verifies_with_its_keys_in_another_order() -> None:
    backwards = dict(reversed(json.loads(E_INVOICE.content).items()))
    for body in (json.dumps(backwards), json.dumps(backwards, ensure_ascii=False, separators=(",", ":"))):
        source("e-invoice-be", E_INVOICE.secrets).verification.verify(with_body(body.encode()), E_INVOICE.now)


@pytest.mark.case("S-21")
@pytest.mark.parametrize("repeated", [b'"id": "evt-forged", ', b'"data": {}, '])
def test_e_invoice_refuses_a_duplicate_key(repeated: bytes) -> None:
    forged = with_body(E_INVOICE.content.replace(b"{", b"{" + repeated, 1))

    with pytest.raises(VerificationError) as caught:
        source("e-invoice-be", E_INVOICE.secrets).verification.verify(forged, E_INVOICE.now)
    assert caught.value.reason == "malformed_body"


def test_e_invoice_may_check_basic_credentials_as_well() -> None:
    both = ["preset", {"type": "basic", "secrets": "env:BASIC"}]
    config = loaded("e-invoice-be", E_INVOICE.secrets, verify=both).config
    secrets = Secrets(Path(), {"S0": "secret", "BASIC": "gatehouse:a-long-enough-password"})
    verification = build_verification(config.sources["it"], secrets)
    request = E_INVOICE.request()

    with pytest.raises(VerificationError):
        verification.verify(request, E_INVOICE.now)
    verification.verify(verification.sign(request, E_INVOICE.now), E_INVOICE.now)


def test_mandato_accepts_the_old_secret_during_a_rotation() -> None:
    rotating = source("mandato", ("wh_the-secret-made-by-the-new-one", *MANDATO.secrets))

    rotating.verification.verify(MANDATO.request(), MANDATO.now)


def test_a_header_that_appears_twice_is_refused() -> None:
    headers = CIMultiDict(MANDATO.request().headers)
    headers.add("X-Mandato-Signature", headers["X-Mandato-Signature"])

    with pytest.raises(VerificationError) as caught:
        source("mandato", MANDATO.secrets).verification.verify(
            msgspec.structs.replace(MANDATO.request(), headers=headers), MANDATO.now
        )
    assert caught.value.reason == "duplicate_header"
