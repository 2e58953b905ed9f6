"""Signed tokens in compact form (RFC 7515), read by hand and strictly.

What a general library would let a token choose, our config pins: the token names an algorithm, and is refused
when it is another than the config's. `alg: none` and a public key taken for an HMAC secret can't happen.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.verify.asymmetric import decoded, holds
from gatehouse.verify.base import ct_equal
from gatehouse.verify.ecdsa import der_of, ec_key
from gatehouse.verify.rsa import rsa_key
from gatehouse.verify.signature import WRITE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Algorithm = Literal["HS256", "RS256", "ES256"]
#: Tells whether a signature (second) holds for the signed bytes (first). Raises nothing.
Check = Callable[[bytes, bytes], bool]

_PARTS = 3


class Token(msgspec.Struct, frozen=True, gc=False):
    """A token, taken apart. Nothing of it is true before its signature was checked."""

    #: Which key signed it, as its header says; None when it says nothing.
    kid: str | None
    #: The claims, as JSON.
    claims: bytes
    #: The signed bytes: header and claims as written.
    signed: bytes
    signature: bytes


def read_token(text: bytes, algorithm: Algorithm) -> Token:
    """Take a token apart. Raises `VerificationError` unless it is one, and of this algorithm."""
    parts = text.split(b".", _PARTS)
    if len(parts) != _PARTS:
        raise VerificationError("malformed_signature")
    header, claims, signature = (decoded(part, "base64url") for part in parts)
    if not header or not claims or not signature:
        raise VerificationError("malformed_signature")
    try:
        named, kid, critical = _header(header)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_signature") from error
    # RFC 7515, 4.1.11: what is critical and not understood has to be refused, and we understand no extension.
    if named != algorithm or critical:
        raise VerificationError("malformed_signature")
    return Token(kid, claims, text.rpartition(b".")[0], signature)


def _header(raw: bytes) -> tuple[str | None, str | None, bool]:
    """Return algorithm, key id, and whether anything is critical."""
    header = Document(raw)
    return text_of(header, "alg"), text_of(header, "kid"), header.raw(("crit",)) is not None


def text_of(document: Document, name: str) -> str | None:
    """Return a member that is a JSON string; None when it is missing or anything else."""
    raw = document.raw((name,))
    return document.text((name,)) if raw is not None and raw.startswith(b'"') else None


def written(header: bytes, claims: bytes, key: bytes) -> bytes:
    """Make a token, signed with HS256."""
    signed = WRITE["base64url"](header) + b"." + WRITE["base64url"](claims)
    return signed + b"." + WRITE["base64url"](hmac.digest(key, signed, "sha256"))


def secret_bytes(secret: bytes, encoding: Literal["utf8", "base64", "pem"]) -> bytes:
    """Turn a secret for HS256 into key bytes. Raises `ValueError`."""
    key = base64.b64decode(secret, validate=True) if encoding == "base64" else secret
    if not key:
        raise ValueError("a secret without key bytes")
    return key


def check_for(algorithm: Algorithm, secret: bytes, encoding: Literal["utf8", "base64", "pem"]) -> Check:
    """Make the check with one secret or public key. Raises `ValueError` when it is not of the right form."""
    if algorithm == "HS256":
        return hs256(secret_bytes(secret, encoding))
    return rs256(rsa_key(secret, "pem")) if algorithm == "RS256" else es256(ec_key(secret, "pem"))


def hs256(key: bytes) -> Check:
    """HMAC with SHA-256."""
    return lambda signed, signature: ct_equal(hmac.digest(key, signed, "sha256"), signature)


def rs256(key: RSAPublicKey) -> Check:
    """RSA with PKCS #1 v1.5 padding and SHA-256."""

    def check(key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())

    return lambda signed, signature: holds(check, key, signature, signed)


def es256(key: ec.EllipticCurvePublicKey) -> Check:
    """ECDSA on P-256 with SHA-256. Raises `ValueError` for a key on another curve."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("ES256 is on the curve P-256")  # noqa: TRY004 - a wrong value, not a wrong type

    def check(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(der_of(key, signature), signed, ec.ECDSA(hashes.SHA256()))

    return lambda signed, signature: holds(check, key, signature, signed)
