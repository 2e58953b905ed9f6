"""Schemes with public keys: published vectors pass, and other signatures and other forms are refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from doubles.keys import der, ec_key, ed25519_key, pem, raw, rsa_key
from gatehouse.config.secrets import SecretError
from gatehouse.errors import GatewayError, VerificationError
from verifying import NOW, flipped, refusal_reason, request, verification

#: Some providers sign with SHA-1. S303 warns against choosing it.
HASHES = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}  # noqa: S303
HEX = {"header": "X-Sig"}
BASE64 = {"header": "X-Sig", "encoding": "base64"}


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def signed_request(body: bytes, signature: str) -> Any:
    return request(body, {"X-Sig": signature})


@pytest.mark.parametrize(
    ("key", "message", "signature"),
    [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_the_vectors_of_rfc_8032_pass(key: str, message: str, signature: str) -> None:
    """RFC 8032, section 7.1, tests 1 to 3."""
    checked = verification({"type": "ed25519", "signature": HEX}, secrets=(key,))

    verified = checked.verify(signed_request(bytes.fromhex(message), signature), NOW)

    assert verified.facts == {"signed": bytes.fromhex(message)}


def test_the_published_vector_of_standard_webhooks_v1a_passes() -> None:
    """From svix/svix-webhooks, server/svix-server/src/worker.rs."""
    listed = {"header": "webhook-signature", "format": "list", "key": "v1a", "encoding": "base64"}
    scheme = {
        "type": "ed25519",
        "key": "whpk",
        "signature": listed,
        "timestamp": {"header": "webhook-timestamp"},
        "signed": "{header:webhook-id}.{timestamp}.{body}",
    }
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,junk v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZ"
        "dpXwVLPo3mNl8EM+m7TBAg==",
    }
    checked = verification(scheme, secrets=("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",))
    body = b'{"test": 2432232314}'

    checked.verify(request(body, headers), 1614265330)

    other = headers | {"webhook-timestamp": "1614265331"}
    assert refusal_reason(checked, request(body, other), 1614265330) == "wrong_signature"
    assert refusal_reason(checked, request(body, headers), 1614265330 + 301) == "stale_timestamp"
    assert refusal_reason(checked, request(body, headers), 1614265330 - 301) == "future_timestamp"


def test_the_vector_of_rfc_6979_passes() -> None:
    """RFC 6979, A.2.5: P-256 with SHA-256, message "sample"."""
    point = (
        0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
        0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
    )
    signature = (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )
    key = pem(ec.EllipticCurvePublicNumbers(*point, ec.SECP256R1()).public_key())

    verification({"type": "ecdsa", "form": "raw", "signature": HEX}, secrets=(key,)).verify(
        signed_request(b"sample", signature), NOW
    )


def ed25519(signed: bytes, name: str = "") -> bytes:
    return ed25519_key(name).sign(signed)


def ecdsa(signed: bytes, name: str = "", *, digest: str = "sha256") -> bytes:
    return ec_key(name).sign(signed, ec.ECDSA(HASHES[digest]))


def ecdsa_raw(signed: bytes, name: str = "") -> bytes:
    return b"".join(number.to_bytes(32) for number in decode_dss_signature(ecdsa(signed, name)))


def rsa(signed: bytes, name: str = "", *, digest: str = "sha256") -> bytes:
    return rsa_key(name).sign(signed, padding.PKCS1v15(), HASHES[digest])


def rsa_pss(signed: bytes, name: str = "") -> bytes:
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    return rsa_key(name).sign(signed, salted, hashes.SHA256())


def key_of(kind: str, name: str = "") -> str:
    if kind == "rsa":
        return pem(rsa_key(name).public_key())
    return pem((ec_key(name) if kind == "ecdsa" else ed25519_key(name)).public_key())


#: Each scheme, with a function that signs for it.
SCHEMES: dict[str, tuple[dict[str, Any], Callable[..., bytes]]] = {
    "ed25519": ({"type": "ed25519", "key": "pem", "signature": BASE64}, ed25519),
    "ecdsa": ({"type": "ecdsa", "signature": BASE64}, ecdsa),
    "ecdsa-raw": ({"type": "ecdsa", "form": "raw", "signature": BASE64}, ecdsa_raw),
    "rsa": ({"type": "rsa", "signature": BASE64}, rsa),
    "rsa-pss": ({"type": "rsa", "padding": "pss", "signature": BASE64}, rsa_pss),
}
each_scheme = pytest.mark.parametrize(("scheme", "sign"), SCHEMES.values(), ids=SCHEMES)


@each_scheme
def test_a_signature_of_the_provider_passes_and_the_facts_hold_the_signed_bytes(
    scheme: dict[str, Any], sign: Callable[..., bytes]
) -> None:
    checked = verification(scheme, secrets=(key_of(scheme["type"]),))

    assert checked.verify(signed_request(b"x", b64(sign(b"x"))), NOW).facts == {"signed": b"x"}


@each_scheme
def test_during_a_rotation_each_key_verifies(scheme: dict[str, Any], sign: Callable[..., bytes]) -> None:
    kind = scheme["type"]
    checked = verification(scheme, secrets=(key_of(kind), key_of(kind, "next")))

    checked.verify(signed_request(b"x", b64(sign(b"x"))), NOW)
    checked.verify(signed_request(b"x", b64(sign(b"x", "next"))), NOW)
    assert refusal_reason(checked, signed_request(b"x", b64(sign(b"x", "another's")))) == "wrong_signature"


@pytest.mark.case("S-08")
@each_scheme
@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
def test_each_encoding_verifies_in_only_one_form(
    scheme: dict[str, Any], sign: Callable[..., bytes], encoding: str
) -> None:
    signature = sign(b"x")
    written = {
        "hex": signature.hex(),
        "base64": b64(signature),
        "base64url": base64.urlsafe_b64encode(signature).decode(),
    }
    place = {"header": "X-Sig", "encoding": encoding}
    checked = verification(scheme | {"signature": place}, secrets=(key_of(scheme["type"]),))

    checked.verify(signed_request(b"x", written[encoding]), NOW)
    right = written[encoding]
    others = {
        right[:-8],
        right + "00",
        right[:20],
        "x" + right,
        right[:9] + "\n" + right[9:],
        right[:9] + "!" + right[9:],
    }
    others |= {"hex": {right.upper()}, "base64": {right.rstrip("=") + "==="}}.get(encoding, set())
    for other in others - {right}:
        assert refusal_reason(checked, signed_request(b"x", other)) in (
            "malformed_signature",
            "wrong_signature",
        )
    assert refusal_reason(checked, signed_request(b"x", right + "!")) == "malformed_signature"
    assert refusal_reason(checked, signed_request(b"x", "é" + right[1:])) == "malformed_signature"


@pytest.mark.case("S-05", "S-07")
@each_scheme
def test_a_missing_signature_has_its_own_reason(scheme: dict[str, Any], sign: Callable[..., bytes]) -> None:
    checked = verification(scheme, secrets=(key_of(scheme["type"]),))

    assert refusal_reason(checked, request(b"x")) == "missing_signature"
    assert refusal_reason(checked, signed_request(b"x", " ")) == "missing_signature"
    twice = request(b"x", [("X-Sig", b64(sign(b"x"))), ("X-Sig", b64(sign(b"x")))])
    assert refusal_reason(checked, twice) == "duplicate_header"


@each_scheme
def test_sign_raises_because_only_the_provider_can_sign(
    scheme: dict[str, Any], sign: Callable[..., bytes]
) -> None:
    checked = verification(scheme, secrets=(key_of(scheme["type"]),))

    with pytest.raises(GatewayError, match="only the provider can sign"):
        checked.sign(request(b"x"), NOW)


@each_scheme
@given(body=st.binary(min_size=1, max_size=100), bit=st.integers(0, 10_000))
def test_a_flipped_bit_is_refused(
    scheme: dict[str, Any], sign: Callable[..., bytes], body: bytes, bit: int
) -> None:
    checked = verification(scheme, secrets=(key_of(scheme["type"]),))
    signature = sign(body)
    checked.verify(signed_request(body, b64(signature)), NOW)

    assert refusal_reason(checked, signed_request(flipped(body, bit), b64(signature))) == "wrong_signature"
    assert refusal_reason(checked, signed_request(body, b64(flipped(signature, bit)))) in (
        "wrong_signature",
        "malformed_signature",
    )


SIGNATURES = st.text(st.characters(exclude_characters="\r\n\0", codec=None), max_size=60) | st.binary(
    max_size=300
).map(b64)


@each_scheme
@given(body=st.binary(max_size=40), signature=SIGNATURES)
def test_random_requests_are_refused_with_verification_errors(
    scheme: dict[str, Any], sign: Callable[..., bytes], body: bytes, signature: str
) -> None:
    checked = verification(scheme, secrets=(key_of(scheme["type"]),))

    with pytest.raises(VerificationError):
        checked.verify(signed_request(body, signature), NOW)


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_only_the_configured_digest_verifies(digest: str) -> None:
    for kind, sign in (("rsa", rsa), ("ecdsa", ecdsa)):
        scheme = {"type": kind, "digest": digest, "signature": BASE64}
        checked = verification(scheme, secrets=(key_of(kind),))

        checked.verify(signed_request(b"x", b64(sign(b"x", digest=digest))), NOW)
        for other in HASHES.keys() - {digest}:
            assert (
                refusal_reason(checked, signed_request(b"x", b64(sign(b"x", digest=other))))
                == "wrong_signature"
            )


def test_only_the_configured_padding_and_form_verify() -> None:
    for scheme, sign in (("rsa", rsa_pss), ("rsa-pss", rsa)):
        checked = verification(SCHEMES[scheme][0], secrets=(key_of("rsa"),))
        assert refusal_reason(checked, signed_request(b"x", b64(sign(b"x")))) == "wrong_signature"
    for scheme, sign in (("ecdsa", ecdsa_raw), ("ecdsa-raw", ecdsa)):
        checked = verification(SCHEMES[scheme][0], secrets=(key_of("ecdsa"),))
        assert refusal_reason(checked, signed_request(b"x", b64(sign(b"x")))) == "malformed_signature"


def test_a_raw_signature_has_the_length_of_its_curve() -> None:
    key = ec_key("", ec.SECP384R1)
    numbers = decode_dss_signature(key.sign(b"x", ec.ECDSA(hashes.SHA256())))
    checked = verification(SCHEMES["ecdsa-raw"][0], secrets=(key_of("ecdsa"), pem(key.public_key())))

    checked.verify(signed_request(b"x", b64(b"".join(number.to_bytes(48) for number in numbers))), NOW)
    checked.verify(signed_request(b"x", b64(ecdsa_raw(b"x"))), NOW)
    assert refusal_reason(checked, signed_request(b"x", b64(bytes(64)))) == "wrong_signature"
    assert refusal_reason(checked, signed_request(b"x", b64(bytes(80)))) == "malformed_signature"


class TestPublicKeys:
    """The secrets of an asymmetric scheme."""

    @pytest.mark.parametrize("encoding", ["hex", "base64", "whpk", "pem"])
    def test_each_encoding_of_an_ed25519_key_loads(self, encoding: str) -> None:
        key = ed25519_key().public_key()
        written = {
            "hex": raw(key).hex(),
            "base64": b64(raw(key)),
            "whpk": "whpk_" + b64(raw(key)),
            "pem": pem(key),
        }
        scheme = {"type": "ed25519", "key": encoding, "signature": BASE64}

        verification(scheme, secrets=(written[encoding] + "\n",)).verify(
            signed_request(b"x", b64(ed25519(b"x"))), NOW
        )

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
    def test_a_der_key_in_base64_loads(self, kind: str) -> None:
        key = rsa_key().public_key() if kind == "rsa" else ec_key().public_key()
        scheme, sign = SCHEMES[kind]

        verification(scheme | {"key": "base64"}, secrets=(b64(der(key)),)).verify(
            signed_request(b"x", b64(sign(b"x"))), NOW
        )

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
    @pytest.mark.parametrize("newline", ["", "\\n", "\r\n", " "])
    def test_a_pem_key_without_line_breaks_loads(self, kind: str, newline: str) -> None:
        scheme, sign = SCHEMES[kind]

        verification(scheme, secrets=(key_of(kind).replace("\n", newline),)).verify(
            signed_request(b"x", b64(sign(b"x"))), NOW
        )

    def test_a_pkcs1_rsa_key_loads(self) -> None:
        written = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()

        assert "RSA PUBLIC KEY" in written
        verification(SCHEMES["rsa"][0], secrets=(written,)).verify(signed_request(b"x", b64(rsa(b"x"))), NOW)

    @pytest.mark.parametrize(
        ("kind", "key"),
        [
            ("rsa", "not a key at all"),
            ("rsa", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
            ("rsa", "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----"),
            ("rsa", "-----BEGIN PUBLIC KEY-----\né\n-----END PUBLIC KEY-----"),
            ("ecdsa", "-----BEGIN PUBLIC KEY----------END RSA PUBLIC KEY-----"),
            # A key of an unknown algorithm (OID 1.2.3.4).
            ("rsa", "-----BEGIN PUBLIC KEY-----MAswBQYDKgMEAwIAAA==-----END PUBLIC KEY-----"),
        ],
    )
    def test_a_malformed_key_is_a_secret_error(self, kind: str, key: str) -> None:
        with pytest.raises(SecretError, match=kind):
            verification(SCHEMES[kind][0], secrets=(key,))

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
    def test_a_key_of_another_kind_is_a_secret_error(self, kind: str) -> None:
        for other in {"rsa", "ecdsa", "ed25519"} - {kind}:
            with pytest.raises(SecretError):
                verification(SCHEMES[kind][0], secrets=(key_of(other),))

    @pytest.mark.parametrize("key", ["", "ab" * 31, "ab" * 33, "xy" * 32, "whpk_" + "ab" * 32])
    def test_an_ed25519_key_of_another_length_is_a_secret_error(self, key: str) -> None:
        for encoding in ("hex", "base64", "whpk", "pem"):
            with pytest.raises(SecretError):
                verification({"type": "ed25519", "key": encoding, "signature": HEX}, secrets=(key,))

    def test_a_short_rsa_key_is_a_secret_error(self) -> None:
        short = pem(rsa_key("short", 1024).public_key())

        with pytest.raises(SecretError, match="rsa"):
            verification(SCHEMES["rsa"][0], secrets=(short,))

    def test_a_private_key_is_a_secret_error_that_does_not_contain_it(self) -> None:
        private = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

        with pytest.raises(SecretError) as caught:
            verification(SCHEMES["rsa"][0], secrets=(private,))
        assert "PRIVATE" not in str(caught.value)
        assert "S0" in str(caught.value)


def test_signature_headers_are_credentials_and_a_key_is_required() -> None:
    signing = [scheme for scheme, _ in SCHEMES.values()]
    for scheme in (*signing, {"type": "ebay"}):
        checked = verification(scheme, secrets=(key_of(scheme["type"] if scheme in signing else "ecdsa"),))
        (one,) = checked.verifiers
        assert one.credential_headers() == {"x-sig" if scheme in signing else "x-ebay-signature"}
        with pytest.raises(SecretError):
            verification(scheme)


class TestEbay:
    """`type: ebay`."""

    #: https://github.com/eBay/event-notification-nodejs-sdk, test/test.json: VALID.
    KEY = (
        "-----BEGIN PUBLIC KEY-----MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZhhxXKtR+TOvtDbgTPCkSof02qgBB7IsYOyf"
        "76ilExJ/upAa/vKIKheOoCyOpcLmi4t0b4uepb7LLjmMr90FUg==-----END PUBLIC KEY-----"
    )
    HEADER = (
        "eyJhbGciOiJlY2RzYSIsImtpZCI6Ijk5MzYyNjFhLTdkN2ItNDYyMS1hMGYxLTk2Y2NiNDI4YWY0OSIsInNpZ25hdHVyZSI6Ik1FWUNJ"
        "UUNmeGZJV3V4bVdjSUJRSjljNS9YN2lHREpxczJSQ0dzQkVhQWppbnlycmZBSWhBSVY2d0djVGlCdVY1S0pVaWYyaG9reXJMK1E5c3NIa2"
        "FkK214Mm5FRTI1dyIsImRpZ2VzdCI6IlNIQTEifQ=="
    )
    BODY = (
        b'{"metadata":{"topic":"MARKETPLACE_ACCOUNT_DELETION","schemaVersion":"1.0","deprecated":false},'
        b'"notification":{"notificationId":"49feeaeb-4982-42d9-a377-9645b8479411'
        b'_33f7e043-fed8-442b-9d44-791923bd9a6d",'
        b'"eventDate":"2021-03-19T20:43:59.462Z","publishDate":"2021-03-19T20:43:59.679Z","publishAttemptCount":1,'
        b'"data":{"username":"test_user","userId":"ma8vp1jySJC",'
        b'"eiasToken":"nY+sHZ2PrBmdj6wVnY+sEZ2PrA2dj6wJnY+gAZGEpwmdj6x9nY+seQ=="}}}'
    )

    def header(self, **changes: object) -> dict[str, str]:
        said = json.loads(base64.b64decode(self.HEADER)) | changes
        return {"X-EBAY-SIGNATURE": b64(json.dumps(said, separators=(",", ":")).encode())}

    def test_the_published_vector_passes(self) -> None:
        checked = verification({"type": "ebay"}, secrets=(self.KEY,))
        headers = {"X-EBAY-SIGNATURE": self.HEADER}

        assert checked.verify(request(self.BODY, headers), NOW).facts["signed"] == self.BODY
        assert refusal_reason(checked, request(self.BODY + b" ", headers)) == "wrong_signature"
        assert refusal_reason(checked, request(self.BODY)) == "missing_signature"

    def test_another_key_is_refused(self) -> None:
        checked = verification({"type": "ebay"}, secrets=(key_of("ecdsa"),))

        assert refusal_reason(checked, request(self.BODY, self.header())) == "wrong_signature"

    @pytest.mark.parametrize(
        "changes",
        [
            {"digest": "SHA256"},
            {"digest": None},
            {"alg": "none"},
            {"alg": None},
            {"signature": None},
            {"signature": 1},
            {"signature": "!!"},
            {"signature": ""},
        ],
    )
    def test_a_header_with_other_members_is_malformed(self, changes: dict[str, object]) -> None:
        checked = verification({"type": "ebay"}, secrets=(self.KEY,))

        assert refusal_reason(checked, request(self.BODY, self.header(**changes))) in (
            "malformed_signature",
            "wrong_signature",
        )

    @given(value=SIGNATURES, bit=st.integers(0, 3000))
    def test_only_the_genuine_header_passes(self, value: str, bit: int) -> None:
        checked = verification({"type": "ebay"}, secrets=(self.KEY,))

        with pytest.raises(VerificationError):
            checked.verify(request(self.BODY, {"X-EBAY-SIGNATURE": value}), NOW)
        with pytest.raises(VerificationError):
            checked.verify(request(flipped(self.BODY, bit), {"X-EBAY-SIGNATURE": self.HEADER}), NOW)

    def test_sign_raises_because_only_ebay_can_sign(self) -> None:
        with pytest.raises(GatewayError, match="only the provider can sign"):
            verification({"type": "ebay"}, secrets=(self.KEY,)).sign(request(b"x"), NOW)
