"""Checks the certificate chain in the header of a token (`x5c`, RFC 7515, 4.1.6) against pinned roots.

The chain has exactly three certificates: that of the signing key, an intermediate one, and a root. Anyone can
get a certificate below the root of a large authority. Therefore the first two must also have the extensions
with which the authority marks the certificates for this purpose.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store
from cryptography.x509.verification import VerificationError as UntrustedError

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import decode_strict
from gatehouse.verify.jws import es256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import CertificatesConfig
    from gatehouse.verify.jws import SignatureCheck, Token

_CERTIFICATES = 3
#: The maximum length of a certificate in base64. Apple's have 500 to 1500 characters.
_MAX_LENGTH = 8192
#: Trusted chains to remember. A provider uses one, and for a short time two.
_MAX_CHAINS = 8

_decode_text = msgspec.json.Decoder(str).decode


class _Trusted(NamedTuple):
    """The check with the key of a trusted chain, and the time (Unix seconds) in which the chain is valid."""

    check: SignatureCheck
    begins: float
    ends: float


class CertificateChains:
    """Checks chains. It remembers the trusted ones, because a provider sends the same chain each time."""

    def __init__(self, config: CertificatesConfig) -> None:
        self._roots = frozenset(bytes.fromhex(root) for root in config.roots)
        self._marks = (x509.ObjectIdentifier(config.leaf), x509.ObjectIdentifier(config.intermediate))
        self._trusted: OrderedDict[tuple[bytes, ...], _Trusted] = OrderedDict()

    def check_of(self, token: Token, at: float) -> SignatureCheck:
        """Return the check with the signing key of a token, if its chain is trusted at this time.

        Raises `VerificationError`.
        """
        chain = _read_chain(token)
        known = self._trusted.get(chain)
        if known is None:
            # The root is pinned, and all the rest of the work is only done for chains that name it.
            if hashlib.sha256(chain[-1]).digest() not in self._roots:
                raise VerificationError("wrong_credentials")
            known = self._trusted[chain] = self._verify(chain, at)
            if len(self._trusted) > _MAX_CHAINS:
                self._trusted.popitem(last=False)
        if not known.begins <= at <= known.ends:
            raise VerificationError("wrong_signature")
        return known.check

    def _verify(self, chain: Sequence[bytes], at: float) -> _Trusted:
        try:
            leaf, intermediate, root = loaded = _load(chain)
            found = (
                PolicyBuilder()
                .store(Store([root]))
                .time(datetime.fromtimestamp(at, UTC))
                .max_chain_depth(1)
                .extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
                .build_client_verifier()
                .verify(leaf, [intermediate])
            )
            # A leaf that the root issued itself would verify beside any intermediate certificate.
            if list(found.chain) != loaded:
                raise VerificationError("wrong_signature")
            for certificate, mark in zip(loaded, self._marks, strict=False):
                certificate.extensions.get_extension_for_oid(mark)
            key = leaf.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise VerificationError("wrong_signature")
            begins = max(one.not_valid_before_utc for one in loaded).timestamp()
            ends = min(one.not_valid_after_utc for one in loaded).timestamp()
            return _Trusted(es256(key), begins, ends)
        except (
            *(UntrustedError, UnsupportedAlgorithm, ValueError, OverflowError, OSError),
            *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
            *(x509.InvalidVersion, CryptographyDeprecationWarning),
        ) as error:
            raise VerificationError("wrong_signature") from error


def _load(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """Load certificates. What cryptography only warns about, such as a negative serial number, is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        return [x509.load_der_x509_certificate(one) for one in chain]


def _read_chain(token: Token) -> tuple[bytes, ...]:
    """Return the certificates in the header of a token, from the signing key's to the root, in DER."""
    header = decode_strict(token.signed.partition(b".")[0], "base64url")
    try:
        texts = Document(header or b"").items(("x5c",))
        if len(texts) != _CERTIFICATES or any(len(text) > _MAX_LENGTH for text in texts):
            raise VerificationError("malformed_signature")
        chain = [decode_strict(as_sent(_decode_text(text)), "base64") for text in texts]
    except (MalformedDocumentError, msgspec.MsgspecError, ValueError) as error:
        raise VerificationError("malformed_signature") from error
    if not all(chain):
        raise VerificationError("malformed_signature")
    return tuple(one for one in chain if one)


def _is_authority(_policy: Policy, _one: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("not an authority")


def _may_issue(_policy: Policy, _one: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("may not issue certificates")


def _is_leaf(_policy: Policy, _one: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("an authority must not sign tokens")


def _may_sign(_policy: Policy, _one: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.digital_signature:
        raise ValueError("may not sign")


_ANY = Criticality.AGNOSTIC
_AUTHORITY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, _ANY, _is_authority)
    .require_present(x509.KeyUsage, _ANY, _may_issue)
)
#: The defaults of the library are for TLS: they would require a host name.
_LEAF = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.BasicConstraints, _ANY, _is_leaf)
    .may_be_present(x509.KeyUsage, _ANY, _may_sign)
)
