"""`type: hmac`: a keyed hash (HMAC) of the signed bytes, which a template describes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Literal

from gatehouse.verify.base import ct_equal
from gatehouse.verify.signature import ENCODERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import HmacConfig

KeyEncoding = Literal["utf8", "hex", "base64", "whsec", "sha1"]


def key_bytes(secret: bytes, encoding: KeyEncoding) -> bytes:
    """Convert a secret to the key of the HMAC. Raises `ValueError` if the secret is not in this encoding."""
    match encoding:
        case "utf8":
            return secret
        case "hex":
            return binascii.unhexlify(secret)
        case "base64":
            return base64.b64decode(secret, validate=True)
        case "whsec":
            # Supabase writes the version before the secret, as in the signature.
            bare = secret.removeprefix(b"v1,").removeprefix(b"whsec_")
            return base64.b64decode(bare, validate=True)
        case "sha1":  # Braintree uses the SHA-1 hash of its private key as the key
            return hashlib.sha1(secret, usedforsecurity=False).digest()


def possible_keys(secret: bytes, encodings: Sequence[KeyEncoding]) -> list[bytes]:
    """Return the key for each encoding that fits the secret. Raises `ValueError` if none fits."""
    keys: list[bytes] = []
    for encoding in encodings:
        try:
            key = key_bytes(secret, encoding)
        except ValueError:
            continue
        if key and key not in keys:
            keys.append(key)
    if not keys:
        raise ValueError("the secret fits none of the encodings")
    return keys


class HmacScheme:
    """Compares the candidate signatures with the HMAC under each key."""

    def __init__(self, config: HmacConfig, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        self._digest = config.digest
        #: Each key, with the position of its secret.
        self._keys = tuple(
            (position, key)
            for position, secret in enumerate(secrets, 1)
            for key in possible_keys(secret, config.key)
        )
        self._encode = ENCODERS[config.signature.encoding]
        self._length = len(self.sign(b""))

    def well_formed(self, signatures: list[bytes]) -> list[bytes]:
        return [signature for signature in signatures if len(signature) == self._length]

    def matching_secret(self, signed: bytes, signatures: list[bytes]) -> int:
        for position, key in self._keys:
            # The encoded texts are compared, so only one encoding of each signature passes.
            expected = self._encode(hmac.digest(key, signed, self._digest))
            for signature in signatures:
                if ct_equal(signature, expected):
                    return position
        return 0

    def sign(self, signed: bytes) -> bytes:
        return self._encode(hmac.digest(self._keys[0][1], signed, self._digest))
