"""Parses signed tokens in compact form (JWS, RFC 7515) and published key sets (JWKS, RFC 7517), strictly."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import (
    decode_strict,
    der_signature,
    is_valid,
    load_ec_key,
    load_rsa_key,
    require_strong_rsa,
)
from gatehouse.verify.base import ct_equal
from gatehouse.verify.signature import ENCODERS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Algorithm = Literal["HS256", "RS256", "ES256", "ES512"]
#: Returns whether the signature (second argument) fits the signed bytes (first argument). Never raises.
SignatureCheck = Callable[[bytes, bytes], bool]

_PARTS = 3


class Token(msgspec.Struct, frozen=True, gc=False):
    """A parsed token. It can't be trusted until its signature has been checked."""

    #: The id of the signing key, from the header; None if the header has none.
    kid: str | None
    #: The claims, as JSON.
    claims: bytes
    #: The signed bytes: header and claims as sent.
    signed: bytes
    signature: bytes


def parse_token(text: bytes, algorithm: Algorithm) -> Token:
    """Parse a token. Raises `VerificationError` if it is malformed or names another algorithm."""
    parts = text.split(b".", _PARTS)
    if len(parts) != _PARTS:
        raise VerificationError("malformed_signature")
    header, claims, signature = (decode_strict(part, "base64url") for part in parts)
    if not header or not claims or not signature:
        raise VerificationError("malformed_signature")
    try:
        named_algorithm, kid, critical = _read_header(header)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_signature") from error
    # RFC 7515, 4.1.11: a recipient must refuse critical extensions that it does not support. Gatehouse
    # supports none.
    if named_algorithm != algorithm or critical:
        raise VerificationError("malformed_signature")
    return Token(kid, claims, text.rpartition(b".")[0], signature)


def _read_header(raw: bytes) -> tuple[str | None, str | None, bool]:
    """Return the algorithm, the key id, and whether the header has critical extensions."""
    header = Document(raw)
    return string_member(header, "alg"), string_member(header, "kid"), header.raw(("crit",)) is not None


def string_member(document: Document, name: str) -> str | None:
    """Return a member that is a JSON string; None if it is missing or has another type."""
    raw = document.raw((name,))
    return document.text((name,)) if raw is not None and raw.startswith(b'"') else None


def make_token(header: bytes, claims: bytes, key: bytes) -> bytes:
    """Create a token that is signed with HS256."""
    signed = ENCODERS["base64url"](header) + b"." + ENCODERS["base64url"](claims)
    return signed + b"." + ENCODERS["base64url"](hmac.digest(key, signed, "sha256"))


def hs256_key(secret: bytes, encoding: Literal["utf8", "base64", "pem"]) -> bytes:
    """Convert a secret to a key for HS256. Raises `ValueError` if it is malformed or empty."""
    key = base64.b64decode(secret, validate=True) if encoding == "base64" else secret
    if not key:
        raise ValueError("the secret decodes to an empty key")
    return key


def make_check(
    algorithm: Algorithm, secret: bytes, encoding: Literal["utf8", "base64", "pem"]
) -> SignatureCheck:
    """Create the check for one secret or public key. Raises `ValueError` if it is malformed."""
    if algorithm == "HS256":
        return hs256(hs256_key(secret, encoding))
    return rs256(load_rsa_key(secret, "pem")) if algorithm == "RS256" else es256(load_ec_key(secret, "pem"))


def hs256(key: bytes) -> SignatureCheck:
    """Check HMAC with SHA-256."""
    return lambda signed, signature: ct_equal(hmac.digest(key, signed, "sha256"), signature)


def rs256(key: RSAPublicKey) -> SignatureCheck:
    """Check RSA with PKCS #1 v1.5 padding and SHA-256."""

    def check(key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())

    return lambda signed, signature: is_valid(check, key, signature, signed)


def es256(key: ec.EllipticCurvePublicKey) -> SignatureCheck:
    """Check ECDSA on P-256 with SHA-256. Raises `ValueError` for a key on another curve."""
    return _ecdsa(key, _CURVES["ES256"])


class _Curve(NamedTuple):
    """A curve of RFC 7518, 3.4, and the hash function that belongs to it."""

    name: str
    curve: ec.EllipticCurve
    digest: hashes.HashAlgorithm
    coordinate_bytes: int


_CURVES = {
    "ES256": _Curve("P-256", ec.SECP256R1(), hashes.SHA256(), 32),
    "ES512": _Curve("P-521", ec.SECP521R1(), hashes.SHA512(), 66),
}


def _ecdsa(key: ec.EllipticCurvePublicKey, expected: _Curve) -> SignatureCheck:
    if not isinstance(key.curve, type(expected.curve)):
        raise ValueError(f"the key is not on the curve {expected.name}")  # noqa: TRY004 - a wrong value, not a wrong type

    def check(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(der_signature(key, signature), signed, ec.ECDSA(expected.digest))

    return lambda signed, signature: is_valid(check, key, signature, signed)


#: Keys per key set. No provider publishes more.
_MAX_KEYS = 50


class _Jwk(msgspec.Struct, frozen=True):
    kty: str = ""
    kid: str | None = None
    use: str = "sig"
    alg: str | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


_decode_key = msgspec.json.Decoder(_Jwk).decode
_decode_key_set = msgspec.json.Decoder(_JwkSet).decode


@lru_cache(maxsize=16)
def key_set_checks(document: bytes, algorithm: Algorithm) -> tuple[tuple[str | None, SignatureCheck], ...]:
    """Return the checks for the keys of a JWKS that fit this algorithm, each with its key id.

    Keys of other kinds and malformed keys are ignored, because a provider may publish keys for other uses.
    """
    try:
        entries = _decode_key_set(document).keys[:_MAX_KEYS]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    found = (_key_id_and_check(bytes(entry), algorithm) for entry in entries)
    return tuple(key for key in found if key is not None)


class _KeyAnswer(msgspec.Struct, frozen=True):
    key: msgspec.Raw = msgspec.Raw()


_decode_key_answer = msgspec.json.Decoder(_KeyAnswer).decode


def jwk_check(secret: bytes, algorithm: Algorithm) -> SignatureCheck:
    """Create the check for a configured JWK. Raises `ValueError`.

    The JWK may be inside a provider's API response, such as Plaid's `{"key": {…}}`.
    """
    try:
        entry = bytes(_decode_key_answer(secret).key)
    except msgspec.MsgspecError as error:
        raise ValueError("not a JWK") from error
    found = _key_id_and_check(entry or secret, algorithm)
    if found is None:
        raise ValueError(f"not a public key for {algorithm}")
    return found[1]


def _key_id_and_check(entry: bytes, algorithm: Algorithm) -> tuple[str | None, SignatureCheck] | None:
    try:
        key = _decode_key(entry)
        if key.use != "sig" or key.alg not in (None, algorithm):
            return None
        if algorithm == "RS256" and key.kty == "RSA":
            return key.kid, _rsa_check(key)
        expected = _CURVES.get(algorithm)
        if expected is not None and (key.kty, key.crv) == ("EC", expected.name):
            return key.kid, _ec_check(key, expected)
    except (msgspec.MsgspecError, ValueError, UnsupportedAlgorithm, RecursionError):
        pass
    return None


def _rsa_check(key: _Jwk) -> SignatureCheck:
    return rs256(
        require_strong_rsa(RSAPublicNumbers(_decode_integer(key.e), _decode_integer(key.n)).public_key())
    )


def _ec_check(key: _Jwk, expected: _Curve) -> SignatureCheck:
    x, y = (_decode_coordinate(text, expected) for text in (key.x, key.y))
    return _ecdsa(ec.EllipticCurvePublicNumbers(x, y, expected.curve).public_key(), expected)


def _decode_coordinate(text: str, expected: _Curve) -> int:
    """Decode a coordinate. TrueLayer leaves out the leading zeros, which half of those on P-521 have."""
    if expected.name != "P-521":
        return _decode_integer(text, expected.coordinate_bytes)
    return _decode_integer(text)


def _decode_integer(text: str, length: int | None = None) -> int:
    """Decode a big-endian integer in base64url. Raises `ValueError`."""
    raw = decode_strict(as_sent(text), "base64url")
    if not raw or (length is not None and len(raw) != length):
        raise ValueError("not an integer of a JWK")
    return int.from_bytes(raw)
