"""`type: ebay`: the signature of eBay's notifications.

https://github.com/eBay/event-notification-nodejs-sdk: `X-EBAY-SIGNATURE` is base64 of a JSON object that
contains an ECDSA signature of the body, with SHA-1. eBay's notification API returns the public key for the
`kid` in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import HASHES, decode_strict, is_valid, load_ec_key, only_provider_can_sign
from gatehouse.verify.base import proven_with, single_header
from gatehouse.verify.jws import string_member

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import EbayConfig
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts

_HEADER = "X-EBAY-SIGNATURE"


class EbayVerifier:
    """Checks the signature with each configured key. It ignores the key id, as the config names the keys."""

    def __init__(self, config: EbayConfig, secrets: Sequence[bytes]) -> None:  # noqa: ARG002 - no settings
        if not secrets:
            raise ValueError("a verifier needs a public key")
        self._keys = tuple(load_ec_key(secret, "pem") for secret in secrets)

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - eBay signs no timestamp
        text = single_header(request, _HEADER)
        if not text:
            raise VerificationError("missing_signature")
        signature = _signature(text)
        if signature is None:
            raise VerificationError("malformed_signature")
        for position, key in enumerate(self._keys, 1):
            if is_valid(_check, key, signature, request.body):
                facts = proven_with(position)
                facts["signed"] = request.body
                return facts
        raise VerificationError("wrong_signature")

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise only_provider_can_sign("eBay")

    def credential_headers(self) -> frozenset[str]:
        return frozenset({_HEADER.lower()})


def _signature(text: str) -> bytes | None:
    """Decode the signature in the header; None if it is malformed or names another algorithm or digest."""
    raw = decode_strict(as_sent(text), "base64") if text.isascii() else None
    if raw is None:
        return None
    document = Document(raw)
    try:
        algorithm, digest = string_member(document, "alg"), string_member(document, "digest")
        written = string_member(document, "signature")
    except MalformedDocumentError:
        return None
    if written is None or (algorithm or "").lower() != "ecdsa" or digest != "SHA1":
        return None
    return decode_strict(as_sent(written), "base64")


def _check(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
    key.verify(signature, signed, ec.ECDSA(HASHES["sha1"]))
