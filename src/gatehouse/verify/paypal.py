"""`type: paypal`: PayPal's signature, with a certificate from a host of PayPal.

https://developer.paypal.com/api/rest/webhooks/rest/ (verify the webhook signature yourself). The signed bytes
are `{transmission id}|{time}|{webhook id}|{CRC-32 of the body}`, so only a checksum protects the body.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gatehouse.errors import VerificationError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import certificate_key, decode_strict, is_valid, only_provider_can_sign
from gatehouse.verify.base import KnownKeys, NoKeys, RemoteVerifier, fetched_key, single_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from gatehouse.config.model import PaypalConfig
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts

#: The URLs at which PayPal publishes its certificates. Nobody else can publish there.
CERTIFICATE_URLS = re.compile(
    r"https://api(\.sandbox)?\.paypal\.com/v1/notifications/certs/[A-Za-z0-9_-]{1,100}"
)
#: The common name of the certificates, which PayPal's SDKs check too.
_SUBJECT = re.compile(r"messageverificationcerts(\.[a-z]+)?\.paypal\.com")
_ALGORITHM = "SHA256withRSA"
_ID, _TIME, _SIGNATURE, _CERTIFICATE_URL, _AUTH_ALGORITHM = tuple(
    f"PAYPAL-{name}"
    for name in ("TRANSMISSION-ID", "TRANSMISSION-TIME", "TRANSMISSION-SIG", "CERT-URL", "AUTH-ALGO")
)
#: Printable ASCII without `|`, which separates the parts of the signed bytes.
_SIGNED_PART = re.compile(r"[!-{}~]{1,100}")


class PaypalVerifier:
    """Verifies the signature for one webhook id, which PayPal assigned to the registered URL."""

    def __init__(
        self,
        config: PaypalConfig,
        secrets: Sequence[bytes],  # noqa: ARG002 - PayPal publishes the key
        *,
        certificate_urls: re.Pattern[str] = CERTIFICATE_URLS,
    ) -> None:
        if not config.webhook_id:
            raise ValueError("the signed bytes contain a webhook id")
        self._webhook_id = config.webhook_id
        self._certificate_urls = certificate_urls
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,)

    def verify(self, request: Request, now: float) -> Facts:
        key = certificate_key(fetched_key(self, request), now, subject=_SUBJECT)
        signature = decode_strict(as_sent(_header(request, _SIGNATURE)), "base64")
        if not signature:
            raise VerificationError("malformed_signature")
        signed = self._signed(request)
        if not is_valid(_check, key, signature, signed):
            raise VerificationError("wrong_signature")
        return {"signed": signed, "timestamp": as_sent(_header(request, _TIME))}

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise only_provider_can_sign("PayPal")

    def credential_headers(self) -> frozenset[str]:
        return frozenset({_SIGNATURE.lower()})

    def key_url(self, request: Request) -> str | None:
        if not single_header(request, _SIGNATURE):
            return None
        if _header(request, _AUTH_ALGORITHM) != _ALGORITHM:
            raise VerificationError("malformed_signature")
        url = _header(request, _CERTIFICATE_URL)
        if not self._certificate_urls.fullmatch(url):
            raise VerificationError("wrong_credentials")
        return url

    def is_outdated(self, request: Request, key: bytes) -> bool:  # noqa: ARG002 - each key has its own URL
        return False

    def _signed(self, request: Request) -> bytes:
        parts = (_header(request, _ID), _header(request, _TIME))
        if not all(map(_SIGNED_PART.fullmatch, parts)):
            raise VerificationError("malformed_signature")
        return as_sent("|".join((*parts, self._webhook_id, str(zlib.crc32(request.body)))))


def _header(request: Request, name: str) -> str:
    value = single_header(request, name)
    if value is None or not value.isascii():
        raise VerificationError("malformed_signature")
    return value


def _check(key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
    key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
