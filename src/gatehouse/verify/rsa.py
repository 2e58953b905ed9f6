"""`type: rsa`: RSA signatures (RFC 8017), as Wise has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gatehouse.verify.asymmetric import HASHES, AsymmetricScheme, public_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from gatehouse.config.model import RsaConfig

#: NIST SP 800-131A: shorter keys can be broken by those who can pay for it.
MIN_BITS = 2048


class RsaScheme(AsymmetricScheme[RSAPublicKey]):
    """Checks signatures with PKCS #1 v1.5 or PSS padding with every live key."""

    def __init__(self, config: RsaConfig, secrets: Sequence[bytes]) -> None:
        keys = [rsa_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)
        self._digest = HASHES[config.digest]
        self._lengths = {key.key_size // 8 for key in keys}
        self._padding: padding.AsymmetricPadding = padding.PKCS1v15()
        if config.padding == "pss":
            self._padding = padding.PSS(padding.MGF1(self._digest), self._digest.digest_size)

    def has_form(self, signature: bytes) -> bool:
        return len(signature) in self._lengths

    def check(self, key: RSAPublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed, self._padding, self._digest)


def rsa_key(secret: bytes, encoding: Literal["pem", "base64"]) -> RSAPublicKey:
    """Read a public key. Raises `ValueError`, also for one that is too short."""
    return strong(public_key(secret, encoding))


def strong(key: PublicKeyTypes) -> RSAPublicKey:
    """Return the key if it is an RSA key of a length that counts. Raises `ValueError`."""
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_BITS:
        return key
    raise ValueError(f"not an RSA key of {MIN_BITS} bits or more")
