"""`type: truelayer`: a detached signature of path, headers and body, with keys from one URL only."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from doubles.keys import Known, ec_key, pem
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.language.times import rfc3339
from gatehouse.verify.base import Verification
from jwts import decode_part, encode_part
from verifying import NOW, flipped, refusal_reason, request, verification

URL = "https://webhooks.truelayer.com/.well-known/jwks"
TIME = rfc3339(NOW)
BODY = b'{"type":"payment_executed","event_id":"1"}'
KEY = ec_key("truelayer", ec.SECP521R1)


def jwk(key: ec.EllipticCurvePrivateKey = KEY, kid: str = "k", **members: Any) -> dict[str, Any]:
    """Write a key as TrueLayer publishes it: without the zeros at the start of a coordinate."""
    numbers = key.public_key().public_numbers()
    x, y = (encode_part(n.to_bytes((n.bit_length() + 7) // 8)) for n in (numbers.x, numbers.y))
    return {"kty": "EC", "alg": "ES512", "kid": kid, "crv": "P-521", "x": x, "y": y} | members


def checked(*keys: dict[str, Any], **settings: Any) -> Verification:
    found = verification({"type": "truelayer"} | settings)
    for remote in found.remote:
        remote.keys = Known({URL: json.dumps({"keys": list(keys or (jwk(),))}).encode()})
    return found


def signature(
    names: str = "X-Tl-Webhook-Timestamp",
    *,
    content: bytes | None = None,
    key: Any = KEY,
    **members: Any,
) -> str:
    header = {"alg": "ES512", "kid": "k", "tl_version": "2", "tl_headers": names, "jku": URL} | members
    head = encode_part(
        json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    )
    if content is None:
        content = f"POST /webhooks/a\nX-Tl-Webhook-Timestamp: {TIME}\n".encode() + BODY
    signed = key.sign(f"{head}.{encode_part(content)}".encode(), ec.ECDSA(hashes.SHA512()))
    length = (key.key_size + 7) // 8
    return f"{head}..{encode_part(b''.join(n.to_bytes(length) for n in decode_dss_signature(signed)))}"


def sent(text: str, **headers: str) -> Request:
    return request(BODY, {"Tl-Signature": text, "X-TL-Webhook-Timestamp": TIME} | headers)


def test_a_signed_request_passes_and_yields_the_signed_timestamp() -> None:
    verified = checked().verify(sent(signature()), NOW)

    assert verified.facts["timestamp"] == TIME.encode()
    assert verified.facts["signed"].endswith(BODY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "missing_signature"),
        ("a.b", "malformed_signature"),
        ("..", "malformed_signature"),
        (f"{signature()}=", "malformed_signature"),
        (signature().replace("..", f".{encode_part(BODY)}."), "malformed_signature"),
        (f"{encode_part(b' ' * 4000)}..AAAA", "malformed_signature"),
        (signature(alg="none"), "malformed_signature"),
        (signature(alg="HS256"), "malformed_signature"),
        (signature(alg="ES256"), "malformed_signature"),
        (signature(tl_version="1"), "malformed_signature"),
        (signature(tl_version=2), "malformed_signature"),
        (signature(kid=None), "malformed_signature"),
        (signature(crit=["b64"]), "malformed_signature"),
        (signature(""), "malformed_signature"),
        (signature("Content-Type"), "malformed_signature"),
        (signature("X-Tl-Webhook-Timestamp,X-TL-Webhook-Timestamp"), "malformed_signature"),
        (signature("X-Tl-Webhook-Timestamp, Content-Type"), "malformed_signature"),
        (signature("X-Tl-Webhook-Timestamp" + ",a" * 20), "malformed_signature"),
        (signature("X-Tl-Webhook-Timestamp,Missing"), "wrong_signature"),
        (signature(jku=None), "wrong_credentials"),
        (signature(jku="https://webhooks.truelayer-sandbox.com/.well-known/jwks"), "wrong_credentials"),
        (signature(jku=URL + "/"), "wrong_credentials"),
        (signature(jku="https://webhooks.truelayer.com@evil.example/.well-known/jwks"), "wrong_credentials"),
        (signature(kid="another"), "wrong_signature"),
        (signature(key=ec_key("another", ec.SECP521R1)), "wrong_signature"),
        (signature(key=ec_key("short")), "wrong_signature"),
        (signature(content=b"POST /webhooks/b\n"), "wrong_signature"),
    ],
)
def test_another_signature_is_refused(text: str, expected: str) -> None:
    assert refusal_reason(checked(), sent(text)) == expected


def test_a_public_key_is_not_accepted_as_an_hmac_secret_nor_a_key_of_another_curve() -> None:
    short = ec_key("short")
    numbers = short.public_key().public_numbers()
    on_p256 = jwk() | {"x": encode_part(numbers.x.to_bytes(32)), "y": encode_part(numbers.y.to_bytes(32))}
    for key in (
        {"kty": "oct", "kid": "k", "alg": "ES512", "k": encode_part(pem(KEY.public_key()).encode())},
        on_p256,
        on_p256 | {"crv": "P-256"},
        jwk(alg="ES256"),
        jwk(use="enc"),
        jwk(x="AA"),
    ):
        assert refusal_reason(checked(key), sent(signature())) == "wrong_signature"
        assert refusal_reason(checked(key), sent(signature(key=short))) == "wrong_signature"


@pytest.mark.parametrize(
    ("age", "expected"),
    [(4 * 86_400, None), (4 * 86_400 + 1, "stale_timestamp"), (-4 * 86_400 - 1, "future_timestamp")],
)
def test_the_signed_timestamp_must_be_recent(age: float, expected: str | None) -> None:
    if expected is None:
        checked().verify(sent(signature()), NOW + age)
    else:
        assert refusal_reason(checked(), sent(signature()), NOW + age) == expected


def test_a_repeated_signed_header_is_refused() -> None:
    doubled = CIMultiDict(sent(signature()).headers)
    doubled.add("X-TL-Webhook-Timestamp", TIME)
    assert refusal_reason(checked(), request(BODY, doubled)) == "duplicate_header"


def test_only_an_unknown_key_id_makes_the_key_set_outdated() -> None:
    (remote,) = checked().remote
    document = json.dumps({"keys": [jwk()]}).encode()

    assert not remote.is_outdated(sent(signature()), document)
    assert remote.is_outdated(sent(signature(kid="new")), document)
    assert remote.key_url(request(BODY)) is None


@given(bit=st.integers(0, 5000), part=st.sampled_from(["header", "signature", "body", "timestamp", "path"]))
def test_a_flipped_bit_is_refused(bit: int, part: str) -> None:
    good = sent(signature())
    head, _, end = good.headers["Tl-Signature"].partition("..")
    if part == "header":
        head = encode_part(flipped(decode_part(head), bit))
    elif part == "signature":
        end = encode_part(flipped(decode_part(end), bit))
    time = flipped(TIME.encode(), bit).decode("latin-1") if part == "timestamp" else TIME
    path = flipped(good.path.encode(), bit).decode("latin-1") if part == "path" else good.path
    body = flipped(BODY, bit) if part == "body" else BODY
    headers = CIMultiDict({"Tl-Signature": f"{head}..{end}", "X-TL-Webhook-Timestamp": time})

    refusal_reason(checked(), msgspec.structs.replace(good, headers=headers, body=body, path=path))


TEXT = st.text(st.characters(exclude_characters="\r\n\0", codec=None), max_size=40)


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "tl_version", "tl_headers", "jku", "crit"]),
        st.none() | st.integers() | TEXT | st.sampled_from(["ES512", "2", URL, "X-TL-Webhook-Timestamp,A"]),
    ).map(json.dumps)
    | TEXT,
    text=TEXT,
    path=TEXT,
)
def test_random_requests_are_refused_with_verification_errors(header: str, text: str, path: str) -> None:
    value = f"{encode_part(header.encode('utf-8', 'surrogatepass'))}..AAAA"
    for one in (value, text):
        asked = msgspec.structs.replace(
            sent(one, A=text), path=path, headers=CIMultiDict({"Tl-Signature": one, "A": text})
        )
        for remote in checked().remote:
            try:
                remote.key_url(asked)
                remote.is_outdated(asked, text.encode("utf-8", "surrogatepass"))
            except VerificationError:
                pass
        refusal_reason(checked(), asked)
