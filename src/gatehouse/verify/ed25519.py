"""`type: ed25519`: Ed25519 signatures (RFC 8032), as of Discord, Telnyx, Standard Webhooks (`v1a`)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatehouse.verify.asymmetric import AsymmetricScheme, public_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import Ed25519Config

_LENGTH = 64


class Ed25519Scheme(AsymmetricScheme[Ed25519PublicKey]):
    """Checks signatures of 64 bytes with every live key."""

    def __init__(self, config: Ed25519Config, secrets: Sequence[bytes]) -> None:
        keys = [_key(secret, config.key) for secret in secrets]
        super().__init__(config.type, config.signature.encoding, keys)

    def has_form(self, signature: bytes) -> bool:
        return len(signature) == _LENGTH

    def check(self, key: Ed25519PublicKey, signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed)


def _key(secret: bytes, encoding: Literal["hex", "base64", "whpk", "pem"]) -> Ed25519PublicKey:
    """Read a public key. Raises `ValueError`."""
    match encoding:
        case "pem":
            key = public_key(secret, "pem")
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
