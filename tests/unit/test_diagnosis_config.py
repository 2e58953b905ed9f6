"""A config or a secret that does not match the requests is found, and the finding names the key to change."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from refusals import BODY, PLAIN, SECRET, TIMED, acme, changed, digest, explained, request


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        ((SECRET,), "the secret `env:S0`"),
        ((SECRET, SECRET + "2"), "any of the 2 secrets (`env:S0` and `env:S1`)"),
    ],
)
def test_a_wrong_secret_is_reported_with_the_names_of_all_secrets(
    secrets: tuple[str, ...], told: str
) -> None:
    (found,) = explained(PLAIN, request(acme(BODY, "another")), *secrets).findings

    assert found == (
        f"The signature does not match {told}. Either the secret is wrong, or the body was changed on the "
        "way. Compare the secret with the one that the provider shows for this account and mode (test or "
        "live), and check that no proxy in front of Gatehouse changes bodies."
    )


@pytest.mark.parametrize("name", ["sha1", "sha512"])
def test_a_signature_with_another_digest_is_recognized(name: str) -> None:
    found = explained(PLAIN, request(acme(BODY, SECRET, name)))

    assert found.findings == (changed(f"`digest: {name}`", "`digest: sha256`"),)


@pytest.mark.parametrize(
    ("encoding", "secret", "key"),
    [
        ("base64", base64.b64encode(b"0123456789abcdef").decode(), b"0123456789abcdef"),
        ("hex", b"0123456789abcdef".hex(), b"0123456789abcdef"),
        ("whsec", "whsec_" + base64.b64encode(b"0123456789abcdef").decode(), b"0123456789abcdef"),
        ("sha1", SECRET, hashlib.sha1(SECRET.encode(), usedforsecurity=False).digest()),
    ],
)
def test_a_key_in_another_encoding_is_recognized(encoding: str, secret: str, key: bytes) -> None:
    found = explained(PLAIN, request(acme(BODY, key)), secret)

    assert found.findings == (changed(f"`key: {encoding}`", "`key: utf8`"),)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("base64", base64.b64encode(digest(BODY)).decode()),
        ("base64url", base64.urlsafe_b64encode(digest(BODY, "fits-only-urlsafe")).decode()),
    ],
)
def test_a_signature_in_another_encoding_is_recognized(encoding: str, text: str) -> None:
    secret = SECRET if encoding == "base64" else "fits-only-urlsafe"
    found = explained(PLAIN, request({"X-Acme-Signature": text}), secret)

    told = changed(f"`signature: {{encoding: {encoding}}}`", "`signature: {encoding: hex}`")
    assert found.findings == (told,)


def test_hex_where_base64_is_configured_is_recognized() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "encoding": "base64"}}

    told = changed("`signature: {encoding: hex}`", "`signature: {encoding: base64}`")
    assert explained(verify, request(acme(BODY))).findings == (told,)


@pytest.mark.parametrize(("configured", "sent"), [("", "sha256="), ("v1=", ""), ("v1=", "v0=")])
def test_another_prefix_is_recognized(configured: str, sent: str) -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "prefix": configured}}
    headers = {"X-Acme-Signature": sent + digest(BODY).hex()}

    told = changed(f'`signature: {{prefix: "{sent}"}}`', f'`signature: {{prefix: "{configured}"}}`')
    assert explained(verify, request(headers)).findings == (told,)


def test_pairs_where_a_plain_signature_is_configured_are_recognized() -> None:
    signature = digest(b"1750000000." + BODY).hex()
    found = explained(PLAIN, request({"X-Acme-Signature": f"t=1750000000,v1={signature}"}))

    told = changed(
        '`signature: {format: pairs, key: v1}`, `timestamp: {pair: t}` and `signed: "{timestamp}.{body}"`',
        '`signature: {format: plain}` and `signed: "{body}"`',
        keys="these keys",
    )
    assert found.findings == (told,)


def test_another_entry_of_the_pairs_is_recognized() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "format": "pairs", "key": "v1"}}
    found = explained(verify, request({"X-Acme-Signature": f"v1=00,s={digest(BODY).hex()}"}))

    assert found.findings == (changed("`signature: {key: s}`", "`signature: {key: v1}`"),)


def test_a_list_where_a_plain_signature_is_configured_is_recognized() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "encoding": "base64"}}
    found = explained(verify, request({"X-Acme-Signature": "v1," + base64.b64encode(digest(BODY)).decode()}))

    told = changed("`signature: {format: list, key: v1}`", "`signature: {format: plain}`")
    assert found.findings == (told,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda secret: f" {secret}\t", "the white space around the secret `env:S0` is removed. Remove it"),
        (lambda secret: f'"{secret}"', "the quotes around the secret `env:S0` are removed. Remove them"),
        (lambda secret: f"whsec_{secret}", "the secret `env:S0` does not start with whsec_. Remove whsec_"),
        (lambda secret: secret.removesuffix("\n"), "the secret `env:S0` ends with a newline. Gatehouse"),
        (lambda secret: secret.removeprefix("whsec_"), "the secret `env:S0` starts with whsec_. Add whsec_"),
    ],
)
def test_a_secret_that_was_copied_with_a_mistake_is_recognized(change: Any, told: str) -> None:
    right = {"ends with a newline": f"{SECRET}\n", "starts with whsec_": f"whsec_{SECRET}"}
    secret = next((value for words, value in right.items() if words in told), SECRET)

    (found,) = explained(PLAIN, request(acme(BODY, secret)), change(secret)).findings

    assert found.startswith(f"The signature matches if {told}")


@pytest.mark.parametrize(
    ("signed", "message"),
    [
        ("{timestamp}.{body}", b"1750000000." + BODY),
        ("v0:{timestamp}:{body}", b"v0:1750000000:" + BODY),
        ("{url}{body}", b"https://h.example/webhooks/acme" + BODY),
        ("{body_sorted}", json.dumps(json.loads(BODY), sort_keys=True).encode()),
    ],
)
def test_another_signed_template_is_recognized(signed: str, message: bytes) -> None:
    verify = TIMED | {"signed": "{timestamp}{method}{body}"}
    headers = acme(message) | {"X-Acme-Time": "1750000000"}

    told = changed(f'`signed: "{signed}"`', '`signed: "{timestamp}{method}{body}"`')
    assert explained(verify, request(headers)).findings == (told,)


def test_a_signature_of_the_body_alone_is_recognized_where_a_timestamp_is_configured() -> None:
    headers = acme(BODY) | {"X-Acme-Time": "1750000000"}

    told = changed('`signed: "{body}"`', '`signed: "{timestamp}.{body}"`')
    assert explained(TIMED, request(headers)).findings == (told,)


@pytest.mark.parametrize(
    ("sent", "unit"), [("1750000000", ""), ("1750000000000", ", unit: ms")], ids=["s", "ms"]
)
def test_a_timestamp_that_is_not_in_the_config_is_recognized(sent: str, unit: str) -> None:
    headers = acme(f"{sent}.".encode() + BODY) | {"X-Acme-Timestamp": sent}
    told = f'`signed: "{{timestamp}}.{{body}}"` and `timestamp: {{header: X-Acme-Timestamp{unit}}}`'

    assert explained(PLAIN, request(headers)).findings == (
        changed(told, '`signed: "{body}"`', keys="these keys"),
    )


def test_two_wrong_keys_of_the_config_are_recognized() -> None:
    key = b"0123456789abcdef"
    headers = {"X-Acme-Signature": "sha256=" + digest(BODY, key).hex()}

    found = explained(PLAIN, request(headers), base64.b64encode(key).decode())

    told = changed(
        '`key: base64` and `signature: {prefix: "sha256="}`',
        '`key: utf8` and `signature: {prefix: ""}`',
        keys="these keys",
    )
    assert found.findings == (told,)


def test_a_signature_of_the_wrong_length_is_reported_with_the_digest_of_that_length() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature"}}

    found = explained(verify, request({"X-Acme-Signature": "0" * 40}))

    assert found.findings[0] == (
        "The signature has 40 characters (the length of sha1 in hex), but sha256 in hex has 64. Check "
        "`digest` and `signature: {encoding: …}` in `sources.acme.verify`."
    )


def test_a_signature_without_its_prefix_is_reported() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature", "prefix": "sha256="}}

    found = explained(verify, request({"X-Acme-Signature": "0" * 64}))

    assert found.findings[0] == (
        'The signature does not start with "sha256=". Check `signature: {prefix: "sha256="}` in '
        "`sources.acme.verify`."
    )


@pytest.mark.parametrize(("configured", "sent"), [("", "Bearer "), ("Bearer ", "")])
def test_a_token_with_another_prefix_is_recognized(configured: str, sent: str) -> None:
    verify = {"type": "token", "header": "X-Token", "prefix": configured}

    (found,) = explained(verify, request({"X-Token": sent + SECRET})).findings

    assert found == changed(f'`prefix: "{sent}"`', f'`prefix: "{configured}"`', subject="The token")


def test_a_wrong_token_is_reported() -> None:
    found = explained({"type": "token", "header": "X-Token"}, request({"X-Token": "wrong"}))

    assert found.findings[0].startswith("The token does not match the secret `env:S0`.")


def test_numbered_signatures_are_tried_with_changes() -> None:
    verify = {"type": "hmac", "signature": {"header": "X-Acme-Signature-{n}"}}

    found = explained(verify, request({"X-Acme-Signature-1": digest(BODY, name="sha1").hex()}))

    assert found.findings == (changed("`digest: sha1`", "`digest: sha256`"),)


def test_the_secrets_of_an_asymmetric_scheme_are_called_public_keys() -> None:
    found = explained(
        {"type": "ed25519", "signature": {"header": "X-Acme-Signature"}},
        request({"X-Acme-Signature": "00" * 64}),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    )
    assert found.findings[-1].startswith("The signature does not match the public key `env:S0`.")


def test_the_id_of_ebays_key_is_named() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    signature = {"alg": "ecdsa", "kid": "9936261a-7d7b", "signature": "MEYCIQCfxfIW", "digest": "SHA1"}
    header = base64.b64encode(json.dumps(signature).encode()).decode()

    found = explained({"type": "ebay"}, request({"X-EBAY-SIGNATURE": header}), key)

    (finding,) = found.findings
    assert finding.startswith("The signature does not match the public key `env:S0`.")
    assert (
        "Compare it with the key that eBay's getPublicKey returns for the key ID (kid) 9936261a-7d7b, and"
        in finding
    )
