"""Verifies signatures: finds the candidates, builds the signed bytes, and asks a scheme for a match."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import MalformedDocumentError, with_value
from gatehouse.language.request import Request, as_sent
from gatehouse.language.scope import Scope
from gatehouse.language.split import Split
from gatehouse.language.times import rfc3339
from gatehouse.verify.base import Facts, ProvenFacts, proven_with, single_header
from gatehouse.verify.freshness import check_timestamp
from gatehouse.verify.places import place, with_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import SignatureConfig, SigningConfig, TimestampConfig
    from gatehouse.language.scope import Scope
    from gatehouse.language.split import Item
    from gatehouse.language.template import Template

#: Candidates per request. No provider sends more, even during a secret rotation.
MAX_SIGNATURES = 10
#: DocuSign signs with up to 100 keys and sends each signature in a separate header.
_MAX_NUMBERED_HEADERS = 100
_NUMBER_PLACEHOLDER = "{n}"
_ANY_KEY = "*"

#: How to encode a hash. Signatures are compared with this form, so no other form of the same hash passes.
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "hex-upper": lambda raw: raw.hex().upper().encode(),
    "base64": partial(binascii.b2a_base64, newline=False),
    # Some providers send padding and some do not, so it is removed before the comparison.
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
}


class Candidates(NamedTuple):
    """The candidate signatures of a request, and the entries next to them."""

    #: The signatures as sent, without prefix.
    signatures: list[bytes]
    #: For `pairs` and `positional`: the entries that occur once.
    pairs: Mapping[str, str] = MappingProxyType({})


class SignaturePlace:
    """Reads the candidate signatures from a request, and writes a signature to a request."""

    def __init__(self, config: SignatureConfig) -> None:
        self._config = config
        self._place = place(headers=config.header, query=None, form=config.form, body=config.body)
        self._numbered = tuple(
            name.removesuffix(_NUMBER_PLACEHOLDER)
            for name in config.header
            if name.endswith(_NUMBER_PLACEHOLDER)
        )
        self._format = config.format
        self._between = config.between
        #: Spaces around the separator are accepted.
        self._separator = config.between.strip() or " "
        self._sets = config.sets
        self._list_separator = ", " if config.between == ", " else " "
        self._assign = config.assign
        self._keys = frozenset(config.key)
        self._prefix = as_sent(config.prefix)
        self._padding = b"=" if config.encoding == "base64url" else b""

    def read(self, scope: Scope) -> Candidates:
        """Return the candidates. Raises `VerificationError` if the signature is missing or not ASCII."""
        if self._numbered:
            return Candidates(self._without_prefix(self._read_numbered(scope.request)))
        text = self._place.read(scope)
        if not text or text.isspace():
            raise VerificationError("missing_signature")
        if not text.isascii():
            raise VerificationError("malformed_signature")
        if self._format == "plain":
            return Candidates(self._without_prefix([text]))
        if self._format == "list":
            return Candidates(
                self._without_prefix(
                    self._signature_values(entry.partition(",") for entry in text.split(self._list_separator))
                )
            )
        return self._read_pairs(text)

    def write(self, request: Request, signature: bytes, timestamps: dict[str, str]) -> Request:
        """Write a signature as the provider does, with the timestamps (name → text) of its pairs."""
        value = (self._prefix + signature).decode()
        key = next(iter(self._config.key), "")
        if self._numbered:
            return with_header(request, f"{self._numbered[0]}1", value)
        if self._format == "list":
            value = f"{key},{value}"
        elif self._format == "positional":
            value = self._between.join([*timestamps.values(), value])
        elif self._format == "pairs":
            entries = timestamps | {"signature" if key == _ANY_KEY else key: value}
            value = self._between.join(f"{name}{self._assign}{text}" for name, text in entries.items())
        return self._place.write(request, value)

    def header_names(self) -> frozenset[str]:
        """Return the headers (lower case) that contain signatures."""
        numbered = (f"{name}{n}" for name in self._numbered for n in range(1, _MAX_NUMBERED_HEADERS + 1))
        return self._place.header_names() | {name.lower() for name in numbered}

    def _read_numbered(self, request: Request) -> list[str]:
        """Read the headers numbered 1, 2, 3 …, up to the first one that is missing."""
        found: list[str] = []
        for name in self._numbered:
            for n in range(1, _MAX_NUMBERED_HEADERS + 1):
                value = single_header(request, f"{name}{n}")
                if value is None:
                    break
                found.append(value)
        if not any(found):
            raise VerificationError("missing_signature")
        return [value for value in found if value.isascii()]

    def _read_pairs(self, text: str) -> Candidates:
        entries = [
            entry.strip(" ")
            for one in (text.split(self._sets) if self._sets else (text,))
            for entry in one.split(self._separator)
        ]
        if self._format == "positional":
            pairs = [(str(position), "", entry) for position, entry in enumerate(entries)]
        else:
            pairs = [entry.partition(self._assign) for entry in entries]
        # One pass counts all names: an unverified form field may hold a hundred thousand entries.
        counts = Counter(name for name, _, _ in (set(pairs) if self._sets else pairs))
        once = {name: value for name, _, value in pairs if counts[name] == 1}
        return Candidates(self._without_prefix(self._signature_values(pairs)), once)

    def _signature_values(self, entries: Iterable[tuple[str, str, str]]) -> list[str]:
        keys = self._keys
        return [value for name, _, value in entries if name in keys or _ANY_KEY in keys]

    def _without_prefix(self, entries: list[str]) -> list[bytes]:
        """Remove prefix and padding from each signature. Only the first few entries are read."""
        limit = _MAX_NUMBERED_HEADERS if self._numbered else MAX_SIGNATURES
        found = []
        for entry in entries[:limit]:
            value = as_sent(entry)
            if value.startswith(self._prefix):
                found.append(value[len(self._prefix) :])
        return [value.rstrip(self._padding) for value in found] if self._padding else found


#: Characters that JSON and XML need and that no id contains. An id with such a character may contain a part
#: of the original body, and the rest would verify as the whole body.
_BODY_CHARACTERS = re.compile(rb'["{}\[\]<>\x00-\x1f]')


class Scheme(Protocol):
    """The cryptography of one scheme, with the keys of all configured secrets."""

    def well_formed(self, signatures: list[bytes]) -> list[bytes]:
        """Return the candidates of the right form, decoded as `matching_secret` needs them."""

    def matching_secret(self, signed: bytes, signatures: list[bytes]) -> int:
        """Return the position of a secret that made a signature, from 1; 0 for none. Never raises."""

    def sign(self, signed: bytes) -> bytes:
        """Return an encoded signature made with the first secret. Raises `GatewayError` if it can't sign."""


class SignedVerifier:
    """Verifies the signature of a request, or of each item of its body."""

    def __init__(self, config: SigningConfig, scheme: Scheme) -> None:
        self._scheme = scheme
        self._place = SignaturePlace(config.signature)
        self._timestamp = SignedTimestamp(config.timestamp) if config.timestamp else None
        self._id = config.id
        self._signed_template = config.signed
        self._each = Split(tuple(config.each.split("."))) if config.each else None
        self._each_path = tuple(config.each.split(".")) if config.each else ()

    def verify(self, request: Request, now: float) -> Facts:
        if self._each is None:
            return self._check(Scope(request), now)
        items = signed_items(request, self._each)
        scopes = (Scope(request, body=raw, outer=outer) for raw, outer in items)
        # The highest position that an item needed. During a rotation this is usually the oldest secret.
        return proven_with(max(self._check(scope, now).secret for scope in scopes))

    def sign(self, request: Request, now: float) -> Request:
        if self._each is None:
            return self._sign(request, now)
        items = signed_items(request, self._each)
        signed = [self._sign(msgspec.structs.replace(request, body=raw), now).body for raw, _ in items]
        body = with_value(request.body, self._each_path, b"[" + b", ".join(signed) + b"]")
        return msgspec.structs.replace(request, body=body)

    def credential_headers(self) -> frozenset[str]:
        return self._place.header_names()

    def _check(self, scope: Scope, now: float) -> ProvenFacts:
        candidates = self._place.read(scope)
        facts = ProvenFacts()
        if self._timestamp is not None:
            facts["timestamp"] = self._timestamp.check(scope, candidates, now)
        signatures = self._scheme.well_formed(candidates.signatures)
        if not signatures:
            raise VerificationError("malformed_signature")
        facts["signed"] = signed = self._signed_bytes(scope, facts)
        facts.secret = secret = self._scheme.matching_secret(signed, signatures)
        if not secret:
            raise VerificationError("wrong_signature")
        return facts

    def _signed_bytes(self, scope: Scope, facts: dict[str, bytes]) -> bytes:
        """Build the signed bytes. Adds the signed id to `facts`."""
        scope.facts = facts
        if self._id is not None:
            facts["id"] = _resolve_id(self._id, scope)
            if _BODY_CHARACTERS.search(facts["id"]):
                raise VerificationError("malformed_signature")
        try:
            signed = self._signed_template.render(scope)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        if signed is None:
            raise VerificationError("malformed_body")
        return signed

    def _sign(self, request: Request, now: float) -> Request:
        facts: dict[str, bytes] = {}
        pairs: dict[str, str] = {}
        if self._timestamp is not None:
            text = self._timestamp.format(now)
            facts["timestamp"] = as_sent(text)
            request, pairs = self._timestamp.write(request, text)
        signature = self._scheme.sign(self._signed_bytes(Scope(request), facts))
        return self._place.write(request, signature, pairs)


class SignedTimestamp:
    """Reads, checks and writes the signed timestamp of a request."""

    def __init__(self, config: TimestampConfig) -> None:
        self._config = config
        self._pair = config.pair
        headers = (config.header,) if config.header else ()
        self._place = place(headers=headers, query=config.query, form=config.form, body=config.body)

    def check(self, scope: Scope, candidates: Candidates, now: float) -> bytes:
        """Return the timestamp as sent. Raises `VerificationError` if it is malformed or out of tolerance."""
        text = candidates.pairs.get(self._pair) if self._pair else self._place.read(scope)
        return check_timestamp(text, self._config.unit, self._config.tolerance, now)

    def format(self, now: float) -> str:
        """Format a time as the provider does."""
        return {"s": str(int(now)), "ms": str(int(now * 1000)), "iso8601": rfc3339(now)}[self._config.unit]

    def write(self, request: Request, text: str) -> tuple[Request, dict[str, str]]:
        """Write the timestamp to the request, or return it as a pair for the signature."""
        if self._pair:
            return request, {self._pair: text}
        return self._place.write(request, text), {}


def signed_items(request: Request, each: Split) -> list[Item]:
    """Return the items of the body, each of which must be verified.

    Raises `VerificationError` if the body is malformed or has no items: without items, nothing is verified.
    """
    try:
        found = each.items(request.body)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if not found:
        raise VerificationError("missing_signature")
    return found


def _resolve_id(template: Template, scope: Scope) -> bytes:
    try:
        resolved = template.render(scope)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if resolved is None:
        raise VerificationError("missing_signature")
    return resolved
