"""What all schemes with a signature share: reading what a request claims, then asking whether it holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import MalformedDocumentError, with_value
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.language.sent import as_sent
from gatehouse.language.split import Split
from gatehouse.language.times import rfc3339
from gatehouse.verify.base import Facts, Proved, proved
from gatehouse.verify.places import place
from gatehouse.verify.signature import Carried, SignaturePlace
from gatehouse.verify.timestamp import check_timestamp

if TYPE_CHECKING:
    from gatehouse.config.model import SigningConfig, TimestampConfig
    from gatehouse.language.split import Item
    from gatehouse.language.template import Template

#: What no id holds, and JSON does not do without: such an id has swallowed the end of a signed body, or its
#: beginning, and what is left would verify as the body.
_OF_A_BODY = re.compile(rb'["{}\[\]<>\x00-\x1f]')


class Scheme(Protocol):
    """The mathematics of one scheme, with the keys of all live secrets."""

    def usable(self, signatures: list[bytes]) -> list[bytes]:
        """Choose, of the signatures as written, those of the right form; in whatever form `matches` takes."""

    def matches(self, signed: bytes, signatures: list[bytes]) -> int:
        """Return which secret any of the usable signatures fits, from 1; 0 for none. Raises nothing."""

    def make(self, signed: bytes) -> bytes:
        """Sign with the first secret, written as the provider does. Raises `GatewayError` if nobody can."""


class SignedVerifier:
    """Checks the signatures that a request, or each item of its body, carries."""

    def __init__(self, config: SigningConfig, scheme: Scheme) -> None:
        self._scheme = scheme
        self._place = SignaturePlace(config.signature)
        self._timestamp = Timestamp(config.timestamp) if config.timestamp else None
        self._id = config.id
        self._signed = config.signed
        self._each = Split(tuple(config.each.split("."))) if config.each else None
        self._each_path = tuple(config.each.split(".")) if config.each else ()

    def verify(self, request: Request, now: float) -> Facts:
        if self._each is None:
            return self._check(Scope(request), now)
        items = items_of(request, self._each)
        scopes = (Scope(request, body=raw, outer=outer) for raw, outer in items)
        # The last of the secrets that any item needed: the oldest, as a rule.
        return proved(max(self._check(scope, now).secret for scope in scopes))

    def sign(self, request: Request, now: float) -> Request:
        if self._each is None:
            return self._sign(request, now)
        items = items_of(request, self._each)
        signed = [self._sign(msgspec.structs.replace(request, body=raw), now).body for raw, _ in items]
        body = with_value(request.body, self._each_path, b"[" + b", ".join(signed) + b"]")
        return msgspec.structs.replace(request, body=body)

    def credential_headers(self) -> frozenset[str]:
        return self._place.header_names()

    def _check(self, scope: Scope, now: float) -> Proved:
        carried = self._place.read(scope)
        facts = Proved()
        if self._timestamp is not None:
            facts["timestamp"] = self._timestamp.check(scope, carried, now)
        signatures = self._scheme.usable(carried.signatures)
        if not signatures:
            raise VerificationError("malformed_signature")
        facts["signed"] = signed = self._signed_bytes(scope, facts)
        facts.secret = secret = self._scheme.matches(signed, signatures)
        if not secret:
            raise VerificationError("wrong_signature")
        return facts

    def _signed_bytes(self, scope: Scope, facts: dict[str, bytes]) -> bytes:
        """Put together what was signed. `facts` gets the id on the way."""
        scope.facts = facts
        if self._id is not None:
            facts["id"] = _resolved_id(self._id, scope)
            if _OF_A_BODY.search(facts["id"]):
                raise VerificationError("malformed_signature")
        try:
            signed = self._signed.render(scope)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        if signed is None:
            raise VerificationError("malformed_body")
        return signed

    def _sign(self, request: Request, now: float) -> Request:
        facts: dict[str, bytes] = {}
        pairs: dict[str, str] = {}
        if self._timestamp is not None:
            text = self._timestamp.text(now)
            facts["timestamp"] = as_sent(text)
            request, pairs = self._timestamp.write(request, text)
        signature = self._scheme.make(self._signed_bytes(Scope(request), facts))
        return self._place.write(request, signature, pairs)


class Timestamp:
    """The signed timestamp of a request."""

    def __init__(self, config: TimestampConfig) -> None:
        self._config = config
        self._pair = config.pair
        headers = (config.header,) if config.header else ()
        self._place = place(headers=headers, query=config.query, form=config.form, body=config.body)

    def check(self, scope: Scope, carried: Carried, now: float) -> bytes:
        """Return it as sent. Raises `VerificationError` when it is malformed, too old or too new."""
        text = carried.pairs.get(self._pair) if self._pair else self._place.read(scope)
        return check_timestamp(text, self._config.unit, self._config.tolerance, now)

    def text(self, now: float) -> str:
        """Write a time as the provider does."""
        return {"s": str(int(now)), "ms": str(int(now * 1000)), "iso8601": rfc3339(now)}[self._config.unit]

    def write(self, request: Request, text: str) -> tuple[Request, dict[str, str]]:
        """Put it where it belongs: in the request, or among the pairs of the signature."""
        if self._pair:
            return request, {self._pair: text}
        return self._place.write(request, text), {}


def items_of(request: Request, each: Split) -> list[Item]:
    """Return the elements that each have to prove themselves. None at all prove nothing.

    Raises `VerificationError`.
    """
    try:
        found = each.items(request.body)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if not found:
        raise VerificationError("missing_signature")
    return found


def _resolved_id(template: Template, scope: Scope) -> bytes:
    try:
        resolved = template.render(scope)
    except MalformedDocumentError as error:
        raise VerificationError("malformed_body") from error
    if resolved is None:
        raise VerificationError("missing_signature")
    return resolved
