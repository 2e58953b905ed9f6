"""`type: hmac`: a keyed hash over part of the request, described in the template language."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Literal

import msgspec
from multidict import CIMultiDict

from gatehouse.document import MalformedDocumentError
from gatehouse.errors import VerificationError
from gatehouse.template import Scope
from gatehouse.times import rfc3339
from gatehouse.verify.base import Proof, Request, ct_equal, single_header
from gatehouse.verify.signature import WRITE, Carried, SignaturePlace
from gatehouse.verify.timestamp import check_timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import HmacConfig

KeyEncoding = Literal["utf8", "hex", "base64", "whsec"]


def key_bytes(secret: bytes, encoding: KeyEncoding) -> bytes:
    """Turn a secret into the bytes that key the hash. Raises `ValueError` when it is not so encoded."""
    match encoding:
        case "utf8":
            return secret
        case "hex":
            return binascii.unhexlify(secret)
        case "base64":
            return base64.b64decode(secret, validate=True)
        case "whsec":
            return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)


class HmacVerifier:
    """Checks the signatures that a request carries against every live secret."""

    def __init__(self, config: HmacConfig, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        self._config = config
        self._digest = config.digest
        self._keys = tuple(key_bytes(secret, config.key) for secret in secrets)
        if not all(self._keys):
            raise ValueError("a secret without key bytes")
        self._signed = config.signed
        self._timestamp = config.timestamp
        self._place = SignaturePlace(config.signature)
        self._length = len(self._written(self._keys[0], b""))

    def verify(self, request: Request, now: float) -> Proof:
        carried = self._place.read(request)
        timestamp = self._checked_timestamp(request, carried, now)
        candidates = [value for value in carried.signatures if len(value) == self._length]
        if not candidates:
            raise VerificationError("malformed_signature")
        signed = self._signed_bytes(request, timestamp)
        for key in self._keys:
            expected = self._written(key, signed)
            for candidate in candidates:
                if ct_equal(candidate, expected):
                    return Proof(timestamp, signed)
        raise VerificationError("wrong_signature")

    def sign(self, request: Request, now: float) -> dict[str, str]:
        timestamp, made = self._made_timestamp(now)
        headers = CIMultiDict(request.headers)
        headers.update(made)
        signed = self._signed_bytes(msgspec.structs.replace(request, headers=headers), timestamp)
        signature = self._written(self._keys[0], signed).decode()
        pair = self._timestamp.pair if self._timestamp else None
        return made | self._place.write(signature, pair, timestamp)

    def credential_headers(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self._config.signature.header)

    def _signed_bytes(self, request: Request, timestamp: bytes | None) -> bytes:
        try:
            signed = self._signed.render(Scope(request, timestamp=timestamp))
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        if signed is None:
            raise VerificationError("malformed_body")
        return signed

    def _written(self, key: bytes, signed: bytes) -> bytes:
        """Hash, and write the hash as the provider does: compared so, it has no second spelling."""
        return WRITE[self._place.encoding](hmac.digest(key, signed, self._digest))

    def _checked_timestamp(self, request: Request, carried: Carried, now: float) -> bytes | None:
        config = self._timestamp
        if config is None:
            return None
        text = carried.pairs.get(config.pair) if config.pair else single_header(request, config.header or "")
        return check_timestamp(text, config.unit, config.tolerance, now)

    def _made_timestamp(self, now: float) -> tuple[bytes | None, dict[str, str]]:
        config = self._timestamp
        if config is None:
            return None, {}
        text = {"s": str(int(now)), "ms": str(int(now * 1000)), "iso8601": rfc3339(now)}[config.unit]
        return text.encode(), {config.header: text} if config.header else {}
