"""Certificate chains like Apple's, and tokens that carry them in their header."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from doubles.keys import ec_key
from verifying import NOW

YEAR = 365 * 86_400.0
LEAF_MARK, INTERMEDIATE_MARK = "1.2.840.113635.100.6.11.1", "1.2.840.113635.100.6.2.1"


def issued(
    name: str,
    issuer: str,
    *,
    mark: str = "",
    authority: bool = False,
    signs: bool = True,
    key: Any = None,
    issuer_key: Any = None,
    since: float = NOW - YEAR,
    until: float = NOW + YEAR,
) -> bytes:
    """Make a certificate in DER. A key has the name of its owner, unless another key is given."""
    public = (key or ec_key(name)).public_key()
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(since, UTC))
        .not_valid_after(datetime.fromtimestamp(until, UTC))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signs and not authority, key_cert_sign=signs and authority, **usage
            ),
            critical=True,
        )
    )
    if mark:
        made = made.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(mark), b"\x05\x00"), critical=False
        )
    return made.sign(issuer_key or ec_key(issuer), hashes.SHA256()).public_bytes(Encoding.DER)


@cache
def root(name: str = "root") -> bytes:
    return issued(name, name, authority=True, since=NOW - 9 * YEAR, until=NOW + 9 * YEAR)


@cache
def intermediate() -> bytes:
    return issued("intermediate", "root", mark=INTERMEDIATE_MARK, authority=True)


@cache
def leaf() -> bytes:
    return issued("leaf", "intermediate", mark=LEAF_MARK)


def good_chain() -> list[bytes]:
    """Return the chain that `settings` trusts: of the key `leaf`, of `intermediate`, and of `root`."""
    return [leaf(), intermediate(), root()]


def fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()


def settings(**changes: Any) -> dict[str, Any]:
    """Return a verifier that trusts the root, as the preset of Apple does."""
    certificates = {
        "roots": fingerprint(root()),
        "leaf": LEAF_MARK,
        "intermediate": INTERMEDIATE_MARK,
    }
    return {
        "type": "jwt",
        "algorithm": "ES256",
        "key": "pem",
        "body": "signedPayload",
        "certificates": certificates,
        "issued": {"claim": "signedDate", "unit": "ms"},
        "max_age": "8d",
    } | changes


def chained_token(
    chain: Any = None, claims: Any = None, *, at: float = NOW, key: ec.EllipticCurvePrivateKey | None = None
) -> str:
    """Sign with PyJWT. The header carries the chain: certificates in DER, or any other JSON value."""
    chain = good_chain() if chain is None else chain
    listed = (
        [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in chain]
        if isinstance(chain, list)
        else chain
    )
    payload = {"id": "1", "signedDate": int(at * 1000)} if claims is None else claims
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return pyjwt.PyJWS().encode(raw, key or ec_key("leaf"), "ES256", {"typ": None, "x5c": listed})


def in_body(token: str) -> bytes:
    return json.dumps({"signedPayload": token}).encode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
