"""Schemes with public keys: `rsa` (RFC 8017), `ecdsa` (FIPS 186-5) and `ed25519` (RFC 8032).

Keys and signatures are decoded strictly. Only the provider can sign, so `sign` always raises.

This module also reads the signing certificates (X.509 in PEM) that providers publish. It does not check their
chains: they are fetched over TLS from a pinned host of the provider, so the certificate of that host
authenticates them.
"""

from __future__ import annotations

import base64
import binascii
import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import NameOID

from gatehouse.errors import GatewayError, VerificationError
from gatehouse.verify.signature import ENCODERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from gatehouse.config.model import EcdsaConfig, Ed25519Config, RsaConfig

Key = TypeVar("Key")
Encoding = Literal["hex", "hex-upper", "base64", "base64url"]

#: Some providers still sign with SHA-1, so a config may select it.
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - see above
    "sha256": hashes.SHA256(),
    "sha512": hashes.SHA512(),
}

#: The PEM labels of RFC 7468, and of PKCS #1, which older tools write.
_PEM = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----([^-]*)-----END \1-----")

_DECODERS: dict[Encoding, Callable[[bytes], bytes]] = {
    "hex": binascii.unhexlify,
    "hex-upper": binascii.unhexlify,
    "base64": lambda text: base64.b64decode(text, validate=True),
    "base64url": lambda text: base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True),
}


class AsymmetricScheme(ABC, Generic[Key]):
    """A scheme whose secrets are the provider's public keys. Each subclass handles one kind of key."""

    def __init__(self, kind: str, encoding: Encoding, keys: Sequence[Key]) -> None:
        if not keys:
            raise ValueError("a verifier needs a public key")
        self._kind = kind
        self._encoding = encoding
        self._keys = tuple(keys)

    def well_formed(self, signatures: list[bytes]) -> list[bytes]:
        """Decode the signatures, and leave out those that no key can have made."""
        found = (decode_strict(signature, self._encoding) for signature in signatures)
        return [raw for raw in found if raw is not None and self.is_well_formed(raw)]

    def matching_secret(self, signed: bytes, signatures: list[bytes]) -> int:
        for position, key in enumerate(self._keys, 1):
            if any(is_valid(self.check, key, signature, signed) for signature in signatures):
                return position
        return 0

    def sign(self, signed: bytes) -> bytes:  # noqa: ARG002 - always raises
        raise only_provider_can_sign(self._kind)

    @abstractmethod
    def is_well_formed(self, signature: bytes) -> bool:
        """Return whether these bytes have the form of a signature."""

    @abstractmethod
    def check(self, key: Key, signature: bytes, signed: bytes) -> None:
        """Raise `InvalidSignature` if the signature is wrong."""


def only_provider_can_sign(kind: str) -> GatewayError:
    """Return the error for a scheme with which Gatehouse can't sign."""
    hint = (
        "replay a request that the provider made, or use the provider's own test button; "
        "in a config for local tests only, verify: {type: none, insecure: true} accepts unsigned samples"
    )
    return GatewayError(f"only the provider can sign: {kind} needs its private key", hint=hint)


def is_valid(check: Callable[[Key, bytes, bytes], None], key: Key, signature: bytes, signed: bytes) -> bool:
    """Return whether a check passes that raises on failure. Never raises."""
    try:
        check(key, signature, signed)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def decode_strict(text: bytes, encoding: Encoding) -> bytes | None:
    """Decode a text; None unless `ENCODERS` would encode the result to exactly this text."""
    try:
        raw = _DECODERS[encoding](text)
    except ValueError:
        return None
    return raw if ENCODERS[encoding](raw) == text else None


def load_public_key(secret: bytes, encoding: Literal["pem", "base64"]) -> PublicKeyTypes:
    """Load a public key from PEM, or from SubjectPublicKeyInfo in base64. Raises `ValueError`."""
    text = secret.decode("ascii").strip()
    if encoding == "pem":
        # Environment variables often contain `\n` instead of line breaks, or none. eBay sends one line.
        match = _PEM.fullmatch(text.replace("\\r", "").replace("\\n", "\n").strip())
        if match is None:
            raise ValueError("not a public key in PEM")
        text = "".join(match[2].split())
    try:
        return load_der_public_key(base64.b64decode(text, validate=True))
    except UnsupportedAlgorithm as error:
        raise ValueError("the kind of public key is not supported") from error


#: The minimum by NIST SP 800-131A: shorter RSA keys are no longer secure.
MIN_BITS = 2048


class RsaScheme(AsymmetricScheme[RSAPublicKey]):
    """Checks signatures with PKCS #1 v1.5 or PSS padding with each key."""

    def __init__(self, config: RsaConfig, secrets: Sequence[bytes]) -> None:
        keys = [load_rsa_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)
        self._digest = HASHES[config.digest]
        self._lengths = {key.key_size // 8 for key in keys}
        self._padding: padding.AsymmetricPadding = padding.PKCS1v15()
        if config.padding == "pss":
            self._padding = padding.PSS(padding.MGF1(self._digest), self._digest.digest_size)

    def is_well_formed(self, signature: bytes) -> bool:
        return len(signature) in self._lengths

    def check(self, key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed, self._padding, self._digest)


def load_rsa_key(secret: bytes, encoding: Literal["pem", "base64"]) -> RSAPublicKey:
    """Load a public key. Raises `ValueError` if it is malformed or too short."""
    return require_strong_rsa(load_public_key(secret, encoding))


def require_strong_rsa(key: PublicKeyTypes) -> RSAPublicKey:
    """Return the key if it is an RSA key of at least `MIN_BITS`. Raises `ValueError` otherwise."""
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_BITS:
        return key
    raise ValueError(f"not an RSA key of at least {MIN_BITS} bits")


class EcdsaScheme(AsymmetricScheme[ec.EllipticCurvePublicKey]):
    """Checks signatures in DER, or as the two integers r and s in fixed length (`form: raw`)."""

    def __init__(self, config: EcdsaConfig, secrets: Sequence[bytes]) -> None:
        keys = [load_ec_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)
        self._algorithm = ec.ECDSA(HASHES[config.digest])
        self._is_raw = config.form == "raw"

    def is_well_formed(self, signature: bytes) -> bool:
        if self._is_raw:
            return any(len(signature) == 2 * integer_length(key) for key in self._keys)
        try:
            decode_dss_signature(signature)
        except ValueError:
            return False
        return True

    def check(self, key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
        der = der_signature(key, signature) if self._is_raw else signature
        key.verify(der, signed, self._algorithm)


def load_ec_key(secret: bytes, encoding: Literal["pem", "base64"]) -> ec.EllipticCurvePublicKey:
    """Load a public key on any named curve. Raises `ValueError`."""
    key = load_public_key(secret, encoding)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    raise ValueError("not an ECDSA key")


def integer_length(key: ec.EllipticCurvePublicKey) -> int:
    """Return the length of each integer of a raw signature, in bytes."""
    return (key.key_size + 7) // 8


def der_signature(key: ec.EllipticCurvePublicKey, raw: bytes) -> bytes:
    """Convert a raw signature to DER. Raises `ValueError` if its length does not fit the curve."""
    length = integer_length(key)
    if len(raw) != 2 * length:
        raise ValueError("the length of the signature does not fit the curve")
    return encode_dss_signature(int.from_bytes(raw[:length]), int.from_bytes(raw[length:]))


_ED25519_LENGTH = 64


class Ed25519Scheme(AsymmetricScheme[Ed25519PublicKey]):
    """Checks signatures of 64 bytes with each key."""

    def __init__(self, config: Ed25519Config, secrets: Sequence[bytes]) -> None:
        keys = [_load_ed25519_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)

    def is_well_formed(self, signature: bytes) -> bool:
        return len(signature) == _ED25519_LENGTH

    def check(self, key: Ed25519PublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed)


def _load_ed25519_key(secret: bytes, encoding: Literal["hex", "base64", "whpk", "pem"]) -> Ed25519PublicKey:
    """Load a public key. Raises `ValueError`."""
    match encoding:
        case "pem":
            key = load_public_key(secret, "pem")
            if isinstance(key, Ed25519PublicKey):
                return key
            raise ValueError("not an Ed25519 key")
        case "hex":
            raw = binascii.unhexlify(secret.strip())
        case "base64":
            raw = base64.b64decode(secret.strip(), validate=True)
        case _:  # whpk
            raw = base64.b64decode(secret.strip().removeprefix(b"whpk_"), validate=True)
    return Ed25519PublicKey.from_public_bytes(raw)


def certificate_key(pem: bytes, now: float, *, subject: re.Pattern[str] | None = None) -> RSAPublicKey:
    """Return the RSA key of a certificate that is valid at `now` (Unix seconds).

    Its common name must match `subject`. Raises `VerificationError`.
    """
    found = _load_certificate(pem)
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
def _load_certificate(pem: bytes) -> tuple[x509.Certificate, RSAPublicKey] | None:
    """Load the first certificate. Any certificates after it are its chain."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        return certificate, require_strong_rsa(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
