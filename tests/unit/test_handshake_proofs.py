"""Proofs in the answers to handshakes, and why they cannot be used to forge events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from gatehouse.errors import (
    MalformedRequestError,
    UnavailableError,
    VerificationError,
)
from gatehouse.verify.base import VerifiedRequest
from handshake_requests import CRC, EBAY, SECRET, TOKEN, ZOOM, answered, get, handshakes, mac, posted, request


def test_a_proof_uses_the_first_secret() -> None:
    built = handshakes(CRC)

    reply = answered(built.before_verification(get(crc_token="9b4507b3-9040-4669-9ca3-6b94edb50553")))

    expected = base64.b64encode(mac("9b4507b3-9040-4669-9ca3-6b94edb50553")).decode()
    assert json.loads(reply.body) == {"response_token": f"sha256={expected}"}


def test_zoom_gets_its_token_in_plain_text_and_hashed() -> None:
    sent = posted(event="endpoint.url_validation", payload={"plainToken": "qgg8vlvZRS6UYooatFL8Aw"})

    reply = answered(handshakes(ZOOM).after_verification(sent))

    hashed = mac("qgg8vlvZRS6UYooatFL8Aw").hex()
    assert json.loads(reply.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": hashed}


def test_the_key_of_a_proof_may_be_the_hash_of_the_secret() -> None:
    """Braintree does this."""
    entry = """{name: bt, method: GET, challenge: "{query:c}", form: "[a-f0-9]{20,32}",
                proof: {type: hmac, digest: sha1, key: sha1, prefix: "p="}, answer: {text: "{proof}"}}"""

    reply = answered(handshakes(entry).before_verification(get(c="20f9f8ed05f77439fe955c977e4c8a53")))

    key = hashlib.new("sha1", SECRET.encode(), usedforsecurity=False).digest()
    expected = hmac.new(key, b"20f9f8ed05f77439fe955c977e4c8a53", "sha1").hexdigest()
    assert reply.body == f"p={expected}".encode()


def test_a_hash_proof_covers_challenge_token_and_url_without_query() -> None:
    built = handshakes(EBAY, more="handshake_secrets: [env:TOKEN, env:OLD]")

    reply = answered(built.before_verification(get(challenge_code="71745723-d031-455c-bfa5-f90d11b4f20a")))

    hashed = f"71745723-d031-455c-bfa5-f90d11b4f20a{TOKEN}https://hooks.example.com/webhooks/a"
    assert json.loads(reply.body) == {"challengeResponse": hashlib.sha256(hashed.encode()).hexdigest()}


def test_a_hash_proof_with_a_token_needs_a_handshake_secret() -> None:
    assert handshakes(EBAY).not_ready == "handshake challenge_code: handshake_secrets is not set"


def test_a_hash_proof_with_a_missing_value_is_503() -> None:
    entry = EBAY.replace("{url}", "{body:a}")
    built = handshakes(entry, more="handshake_secrets: env:TOKEN")

    for body in (b"{}", b"{"):
        with pytest.raises(UnavailableError):
            built.before_verification(request("GET", query="challenge_code=a", body=body))


@pytest.mark.parametrize("secret", ["not base64, and S3cret", "", "whsec_", "whsec_" + "=" * 12])
def test_an_error_names_a_malformed_secret_without_its_value(secret: str) -> None:
    entry = CRC.replace("type: hmac", "type: hmac, key: whsec")

    why = handshakes(entry, more="min_secret: 1", environment={"SECRET": secret}).not_ready

    assert why is not None
    assert "env:SECRET" in why
    assert "S3cret" not in why


@pytest.mark.parametrize(
    "wanted",
    ['{"for_user_id":"1","tweet_create_events":[]}', "[]", "v0:1700000000:{}", "1700000000.{}", "a" * 129],
)
def test_an_event_is_not_accepted_as_a_challenge(wanted: str) -> None:
    with pytest.raises(MalformedRequestError):
        handshakes(CRC).before_verification(get(crc_token=wanted))


def test_a_proof_is_not_accepted_as_a_signature() -> None:
    """Anyone can get `abc` signed as a challenge, so a valid signature of `abc` proves nothing."""
    built = handshakes(CRC)

    for body in (b"abc", b"123", b"null", b"true"):
        with pytest.raises(VerificationError) as caught:
            built.after_verification(VerifiedRequest(request(body=body), {"signed": body}))
        assert caught.value.reason == "wrong_signature"


@pytest.mark.parametrize("body", [b'{"id":1}', b"abc\n", b"\xff\xfe", b"a" * 5000, b'"abc"'])
def test_signed_bytes_that_could_not_be_a_challenge_are_accepted(body: bytes) -> None:
    assert handshakes(CRC).after_verification(VerifiedRequest(request(body=body), {"signed": body})) is None


@pytest.mark.parametrize(
    ("verify", "guarded"),
    [
        ("{type: hmac, signature: {header: X-Signature}}", True),
        ("{type: hmac, digest: sha1, signature: {header: X-Signature}}", False),
        ("{type: any, of: [{type: hmac, signature: {header: X-Signature}}]}", True),
        ("{type: jwt, algorithm: HS256, header: X-Token}", True),
        ("{type: token, header: X-Token}", False),
        ("{type: twilio}", False),
    ],
)
def test_proofs_are_refused_as_signatures_only_with_the_same_hash_function(
    verify: str, guarded: bool
) -> None:
    built = handshakes(CRC, verify=verify)
    sent = VerifiedRequest(request(body=b"abc"), {"signed": b"abc"})

    if guarded:
        with pytest.raises(VerificationError):
            built.after_verification(sent)
    else:
        assert built.after_verification(sent) is None


def test_a_hash_proof_does_not_restrict_the_signed_bytes() -> None:
    built = handshakes(EBAY, more="handshake_secrets: env:TOKEN")

    assert built.after_verification(VerifiedRequest(request(body=b"abc"), {"signed": b"abc"})) is None
