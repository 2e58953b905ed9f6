"""What the schemes with public keys have in common: keys and signatures read strictly, nobody signs."""

from __future__ import annotations

import base64
import binascii
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gatehouse.errors import GatewayError
from gatehouse.verify.signature import WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Key = TypeVar("Key")
Encoding = Literal["hex", "hex-upper", "base64", "base64url"]

#: SHA-1 is here for the providers that sign with nothing better; a config has to ask for it.
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - as above
    "sha256": hashes.SHA256(),
    "sha512": hashes.SHA512(),
}

#: RFC 7468, and PKCS #1 as older tools write it.
_PEM = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----([^-]*)-----END \1-----")

_READ: dict[Encoding, Callable[[bytes], bytes]] = {
    "hex": binascii.unhexlify,
    "hex-upper": binascii.unhexlify,
    "base64": lambda text: base64.b64decode(text, validate=True),
    "base64url": lambda text: base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True),
}


class AsymmetricScheme(ABC, Generic[Key]):
    """A scheme whose secrets are the provider's public keys. Subclasses know one kind of key."""

    def __init__(self, kind: str, encoding: Encoding, keys: Sequence[Key]) -> None:
        if not keys:
            raise ValueError("a verifier needs a public key")
        self._kind = kind
        self._encoding = encoding
        self._keys = tuple(keys)

    def usable(self, signatures: list[bytes]) -> list[bytes]:
        """Decode the signatures, and leave out those that no key could have made."""
        found = (decoded(signature, self._encoding) for signature in signatures)
        return [raw for raw in found if raw is not None and self.has_form(raw)]

    def matches(self, signed: bytes, signatures: list[bytes]) -> int:
        for position, key in enumerate(self._keys, 1):
            if any(holds(self.check, key, signature, signed) for signature in signatures):
                return position
        return 0

    def make(self, signed: bytes) -> bytes:  # noqa: ARG002 - there is nothing to make
        raise only_the_provider_signs(self._kind)

    @abstractmethod
    def has_form(self, signature: bytes) -> bool:
        """Tell whether these bytes are written as a signature is."""

    @abstractmethod
    def check(self, key: Key, signature: bytes, signed: bytes) -> None:
        """Raise `InvalidSignature` when the signature does not hold."""


def only_the_provider_signs(kind: str) -> GatewayError:
    """Make the error for who asks an asymmetric scheme to sign."""
    hint = "replay a request that the provider made, or use the provider's own test button"
    return GatewayError(f"only the provider can sign: {kind} needs its private key", hint=hint)


def holds(check: Callable[[Key, bytes, bytes], None], key: Key, signature: bytes, signed: bytes) -> bool:
    """Turn a check that raises into a verdict. Raises nothing."""
    try:
        check(key, signature, signed)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def decoded(text: bytes, encoding: Encoding) -> bytes | None:
    """Read bytes written as text; None unless they are written in the one way that `WRITE` does."""
    try:
        raw = _READ[encoding](text)
    except ValueError:
        return None
    return raw if WRITE[encoding](raw) == text else None


def public_key(secret: bytes, encoding: Literal["pem", "base64"]) -> PublicKeyTypes:
    """Read a public key, in PEM or as SubjectPublicKeyInfo in base64. Raises `ValueError`."""
    text = secret.decode("ascii").strip()
    if encoding == "pem":
        # In environment variables line breaks are written `\n` or get lost, and eBay sends one line.
        match = _PEM.fullmatch(text.replace("\\r", "").replace("\\n", "\n").strip())
        if match is None:
            raise ValueError("not a public key in PEM")
        text = "".join(match[2].split())
    try:
        return load_der_public_key(base64.b64decode(text, validate=True))
    except UnsupportedAlgorithm as error:
        raise ValueError("a public key of an unknown kind") from error
