"""Headers and other signed parts that are missing, occur twice or belong to another provider are named."""

from __future__ import annotations

from typing import Any

import pytest

from gatehouse import providers
from gatehouse.diagnosis import signature_headers
from refusals import BODY, PLAIN, URL, acme, explained, request


def test_a_header_that_occurs_twice_is_named() -> None:
    headers = [*acme(BODY).items(), ("x-acme-signature", "00"), ("X-Other", "1"), ("X-Other", "2")]

    assert explained(PLAIN, request(headers)).findings == (
        (
            "The header X-Acme-Signature occurs twice, but Gatehouse expects it once. Find the proxy that "
            "adds it, and configure it to forward the provider's header only."
        ),
    )


def test_a_missing_header_is_named_with_a_similar_one() -> None:
    found = explained(PLAIN, request({"X-Acme-Sig": "00", "X-Request-Id": "1", "User-Agent": "a"}))

    assert found.findings == (
        "The header X-Acme-Signature is missing.",
        (
            "The header X-Acme-Sig is present. If it is the signature, set `signature: {header: "
            "X-Acme-Sig}` in `sources.acme.verify`."
        ),
    )


def test_each_header_in_which_a_preset_signs_is_found_without_reading_all_presets() -> None:
    mentioned = signature_headers._mentioned_headers()
    for name in providers.names():
        signed_in = signature_headers._signature_headers(name)
        assert signed_in <= mentioned[name], name


def test_a_known_providers_signature_is_recognized() -> None:
    found = explained(PLAIN, request({"Stripe-Signature": "t=1,v1=ab"}))

    assert found.findings[1] == (
        "The header Stripe-Signature is present: Stripe signs in it. If that is the provider, use its preset "
        "(`provider: NAME`); `gatehouse providers` lists the names."
    )


def test_an_older_form_of_a_known_header_is_recognized() -> None:
    """GitHub, Meta and others send X-Hub-Signature beside X-Hub-Signature-256."""
    found = explained(PLAIN, request({"X-Hub-Signature": "sha1=00"}))

    assert found.findings[1].startswith("The header X-Hub-Signature is present: ")
    assert " or another provider signs in it." in found.findings[1]


def test_an_empty_signature_header_is_reported() -> None:
    assert (
        "The header X-Acme-Signature is empty."
        in explained(PLAIN, request({"X-Acme-Signature": ""})).findings
    )


def test_a_request_without_any_signature_header_is_reported() -> None:
    found = explained(PLAIN, request({"User-Agent": "scanner"}))

    assert found.findings[1].startswith("No header looks like a signature.")


@pytest.mark.parametrize(
    ("verify", "told"),
    [
        (
            {"type": "hmac", "signature": {"body": "a.sig"}},
            "The request has no signature: expected in the body at `a.sig`.",
        ),
        (
            {"type": "token", "query": "key"},
            "The request has no token: expected in the query parameter `key`.",
        ),
        ({"type": "token", "form": "key"}, "The request has no token: expected in the form field `key`."),
        ({"type": "basic"}, "The header Authorization is missing."),
    ],
)
def test_a_missing_signature_outside_the_headers_is_reported(verify: dict[str, Any], told: str) -> None:
    assert told in explained(verify, request({}), "user:a-long-enough-password").findings


def test_a_missing_signed_part_is_named() -> None:
    found = explained(PLAIN | {"signed": "{header:X-Request-Id}{body}"}, request(acme(BODY)))

    assert found.findings == (
        "The signature covers `{header:X-Request-Id}`, which is missing. Check that no proxy removes it.",
    )


def test_a_missing_public_url_is_named() -> None:
    found = explained(URL, request(acme(BODY), public_url=""))

    assert found.findings == (
        (
            "The signature covers `{url}`, but `server.public_url` is not set. Set it to the address that "
            "the provider sends to, as in https://hooks.example.com."
        ),
    )


def test_a_missing_signed_header_is_named_instead_of_the_signature() -> None:
    signed = PLAIN | {"id": "{header:X-Acme-Id}", "signed": "{id}.{body}"}
    found = explained(signed, request(acme(b"1." + BODY)))
    assert found.findings == (
        "The signature covers `{header:X-Acme-Id}`, which is missing. Check that no proxy removes it.",
    )
