"""Where a signature stands in a request, and how it is written there."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.language.sent import as_sent
from gatehouse.verify.base import single_header
from gatehouse.verify.places import place, with_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import SignatureConfig
    from gatehouse.language.scope import Scope

#: A header may list many signatures; no provider sends more live ones than this.
MAX_SIGNATURES = 10
#: DocuSign signs with up to 100 keys, each in a header of its own.
_MAX_NUMBERED = 100
_NUMBER = "{n}"
_ANY = "*"

#: How a hash is written. What arrives is compared with this spelling, so no other spelling passes.
WRITE: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "hex-upper": lambda raw: raw.hex().upper().encode(),
    "base64": partial(binascii.b2a_base64, newline=False),
    # Providers write it with padding and without: it is compared without.
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
}


class Carried(msgspec.Struct, frozen=True, gc=False):
    """What a request carries as proof."""

    #: The signatures as written, without prefix.
    signatures: list[bytes]
    #: For `pairs` and `positional`: the entries that are there once.
    pairs: dict[str, str] = {}


class SignaturePlace:
    """Reads the signatures out of a request, and writes one into a request to be sent."""

    def __init__(self, config: SignatureConfig) -> None:
        self._config = config
        self._place = place(headers=config.header, query=None, form=config.form, body=config.body)
        self._numbered = tuple(name.removesuffix(_NUMBER) for name in config.header if name.endswith(_NUMBER))
        self._format = config.format
        self._between = config.between
        #: A space beside it is tolerated.
        self._split_at = config.between.strip() or " "
        self._sets = config.sets
        self._list_split_at = ", " if config.between == ", " else " "
        self._assign = config.assign
        self._keys = frozenset(config.key)
        self._prefix = as_sent(config.prefix)
        self._padding = b"=" if config.encoding == "base64url" else b""

    def read(self, scope: Scope) -> Carried:
        """Find the signatures. Raises `VerificationError` when there is none that could pass."""
        if self._numbered:
            return Carried(self._bare(self._read_numbered(scope.request)))
        text = self._place.read(scope)
        if not text or text.isspace():
            raise VerificationError("missing_signature")
        if not text.isascii():
            raise VerificationError("malformed_signature")
        if self._format == "plain":
            return Carried(self._bare([text]))
        if self._format == "list":
            return Carried(
                self._bare(self._chosen(entry.partition(",") for entry in text.split(self._list_split_at)))
            )
        return self._read_pairs(text)

    def write(self, request: Request, signature: bytes, timestamps: dict[str, str]) -> Request:
        """Write a signature as the provider does, beside the timestamps (name → text) of its pairs."""
        value = (self._prefix + signature).decode()
        key = next(iter(self._config.key), "")
        if self._numbered:
            return with_header(request, f"{self._numbered[0]}1", value)
        if self._format == "list":
            value = f"{key},{value}"
        elif self._format == "positional":
            value = self._between.join([*timestamps.values(), value])
        elif self._format == "pairs":
            entries = timestamps | {"signature" if key == _ANY else key: value}
            value = self._between.join(f"{name}{self._assign}{text}" for name, text in entries.items())
        return self._place.write(request, value)

    def header_names(self) -> frozenset[str]:
        """Name the headers (lower case) that carry signatures."""
        numbered = (f"{name}{n}" for name in self._numbered for n in range(1, _MAX_NUMBERED + 1))
        return self._place.header_names() | {name.lower() for name in numbered}

    def _read_numbered(self, request: Request) -> list[str]:
        """Read the headers 1, 2, 3 …, up to the first that is not there."""
        found: list[str] = []
        for name in self._numbered:
            for n in range(1, _MAX_NUMBERED + 1):
                value = single_header(request, f"{name}{n}")
                if value is None:
                    break
                found.append(value)
        if not any(found):
            raise VerificationError("missing_signature")
        return [value for value in found if value.isascii()]

    def _read_pairs(self, text: str) -> Carried:
        entries = [
            entry.strip(" ")
            for one in (text.split(self._sets) if self._sets else (text,))
            for entry in one.split(self._split_at)
        ]
        if self._format == "positional":
            pairs = [(str(position), "", entry) for position, entry in enumerate(entries)]
        else:
            pairs = [entry.partition(self._assign) for entry in entries]
        # Counted in one go: a form field may hold a hundred thousand entries, and nobody is verified yet.
        counts = Counter(name for name, _, _ in (set(pairs) if self._sets else pairs))
        once = {name: value for name, _, value in pairs if counts[name] == 1}
        return Carried(self._bare(self._chosen(pairs)), once)

    def _chosen(self, entries: Iterable[tuple[str, str, str]]) -> list[str]:
        keys = self._keys
        return [value for name, _, value in entries if name in keys or _ANY in keys]

    def _bare(self, entries: list[str]) -> list[bytes]:
        """Take what stands around each signature away. More than a few are not looked at."""
        limit = _MAX_NUMBERED if self._numbered else MAX_SIGNATURES
        found = []
        for entry in entries[:limit]:
            value = as_sent(entry)
            if value.startswith(self._prefix):
                found.append(value[len(self._prefix) :])
        return [value.rstrip(self._padding) for value in found] if self._padding else found
