"""Where a signature stands in a request, and how it is written there."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from gatehouse.document import MalformedDocumentError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.template import Scope
from gatehouse.verify.base import Request, single_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.config.model import SignatureConfig

#: A header may list many signatures; no provider sends more live ones than this.
MAX_SIGNATURES = 10

#: How a hash is written. What arrives is compared with this spelling, so no other spelling passes.
WRITE: dict[str, Callable[[bytes], bytes]] = {
    "hex": lambda raw: raw.hex().encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
}


class Carried(msgspec.Struct, frozen=True, gc=False):
    """What a request carries as proof."""

    #: The signatures as written, without prefix.
    signatures: list[bytes]
    #: For `pairs`: the entries that are there once.
    pairs: dict[str, str] = {}


class SignaturePlace:
    """Reads the signatures out of a request, and writes one into the headers of a request to be sent."""

    def __init__(self, config: SignatureConfig) -> None:
        self.encoding = config.encoding
        self._headers = config.header
        self._body = config.body
        self._form = config.form
        self._format = config.format
        self._keys = frozenset(config.key)
        self._first_key = config.key[0] if config.key else ""
        self._prefix = config.prefix.encode()

    def read(self, request: Request) -> Carried:
        """Find the signatures. Raises `VerificationError` when there is none that could pass."""
        text = self._text(request)
        if not text or text.isspace():
            raise VerificationError("missing_signature")
        if not text.isascii():
            raise VerificationError("malformed_signature")
        if self._format == "pairs":
            return self._read_pairs(text)
        entries = [text] if self._format == "plain" else self._listed(text)
        return Carried(self._unprefixed(entries))

    def write(self, signature: str, pair: str | None, timestamp: bytes | None) -> dict[str, str]:
        """Write a signature into its header, as the provider does.

        Raises `GatewayError` for schemes that carry it in the body: there it would have to sign itself.
        """
        if not self._headers:
            raise GatewayError("a signature inside the body can't be made from outside")
        value = self._prefix.decode() + signature
        if self._format == "pairs":
            value = f"{self._first_key}={value}"
            if pair and timestamp is not None:
                value = f"{pair}={timestamp.decode()},{value}"
        elif self._format == "list":
            value = f"{self._first_key},{value}"
        return {self._headers[0]: value}

    def _text(self, request: Request) -> str | None:
        for name in self._headers:
            value = single_header(request, name)
            if value is not None:
                return value
        try:
            if self._body:
                return Scope(request).document.text(tuple(self._body.split(".")))
            return Scope(request).form.get(self._form) if self._form else None
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error

    def _read_pairs(self, text: str) -> Carried:
        entries = [entry.strip(" ").partition("=") for entry in text.split(",")]
        signatures = [value for name, _, value in entries if name in self._keys]
        names = [name for name, _, _ in entries]
        pairs = {name: value for name, _, value in entries if names.count(name) == 1}
        return Carried(self._unprefixed(signatures), pairs)

    def _listed(self, text: str) -> list[str]:
        entries = [entry.partition(",") for entry in text.split(" ")]
        return [value for name, _, value in entries if name in self._keys]

    def _unprefixed(self, entries: list[str]) -> list[bytes]:
        found = [entry.encode() for entry in entries[:MAX_SIGNATURES]]
        if not self._prefix:
            return found
        return [value[len(self._prefix) :] for value in found if value.startswith(self._prefix)]
