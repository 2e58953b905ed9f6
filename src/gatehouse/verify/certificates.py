"""Signing certificates that providers serve (X.509 in PEM).

Their chains are not checked, and need not be: the address is pinned to a host of the provider and fetched
over TLS, so that host's own, publicly audited certificate chain vouches for every byte that comes from there.
Who could serve another certificate there could as well publish a signing certificate with a chain.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from gatehouse.errors import VerificationError
from gatehouse.verify.rsa import strong

if TYPE_CHECKING:
    import re

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


def signing_key(pem: bytes, now: float, *, subject: re.Pattern[str] | None = None) -> RSAPublicKey:
    """Return the RSA key of a certificate that is valid at `now` (unix seconds).

    `subject` is what its common name has to be. Raises `VerificationError`.
    """
    found = _read(pem)
    if found is None:
        raise VerificationError("wrong_signature")
    certificate, key = found
    if (
        not certificate.not_valid_before_utc
        <= datetime.fromtimestamp(now, UTC)
        <= certificate.not_valid_after_utc
    ):
        raise VerificationError("wrong_signature")
    if subject is not None and not any(map(subject.fullmatch, _common_names(certificate))):
        raise VerificationError("wrong_credentials")
    return key


@lru_cache(maxsize=64)
def _read(pem: bytes) -> tuple[x509.Certificate, RSAPublicKey] | None:
    """Read the first certificate: what follows it, if anything, is its chain."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return certificate, strong(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
