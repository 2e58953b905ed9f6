"""What a verifier sees and what it gives back. Only `Verification.verify` makes a `VerifiedRequest`."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.verify.keys import RemoteVerifier, remote_of

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

    from gatehouse.scope import Scope


class Request(msgspec.Struct, frozen=True, gc=False):
    """One inbound HTTP request, as the bytes that were sent."""

    method: str
    #: The path as sent: neither decoded nor normalised, without the query.
    path: str
    #: What stood behind the `?`, as sent; empty without one.
    query: str
    #: Values as the HTTP parser gives them: bytes that are not UTF-8 are surrogate escapes.
    headers: CIMultiDictProxy[str] | CIMultiDict[str]
    body: bytes
    #: The address the provider used, scheme and host, when `server.public_url` says it.
    public_url: str = ""
    #: The address that sent it: the peer, or what a trusted proxy says of it.
    client: str = ""


#: What a verifier learned on the way to its yes, by the name of its placeholder: `timestamp`, as sent; `id`,
#: the signed id; `signed`, the signed bytes; `claims`, what a token says. What a scheme has not is missing.
Facts = Mapping[str, bytes]

NOTHING: Facts = {}


class VerifiedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that passed every verifier of its source. Events are read from nothing else."""

    request: Request
    facts: Facts = {}
    #: What the templates of its events see, when it had to be known to verify; None when it had not.
    scopes: tuple[Scope, ...] | None = None


class AgeLimit(Protocol):
    """How old a request may be."""

    def check(self, request: Request, facts: Facts, now: float) -> tuple[Scope, ...] | None:
        """Refuse a verified request that was signed too long ago. Raises `VerificationError`.

        Returns the scopes of its events, if they had to be worked out.
        """


class Verifier(Protocol):
    """One authentication scheme with its secrets."""

    def verify(self, request: Request, now: float) -> Facts:
        """Check the request against the clock `now` (unix seconds).

        Raises `VerificationError` when the request does not pass, and nothing else, whatever the input.
        """

    def sign(self, request: Request, now: float) -> Request:
        """Make the request as the provider would send it at `now`, with signature or credentials in it.

        The inverse of `verify`, for the `sign`, `send` and `demo` commands and for tests. Raises
        `VerificationError` for a body that the scheme can't sign, and `GatewayError` when nobody but the
        provider could sign: an asymmetric scheme, an address.
        """

    def credential_headers(self) -> frozenset[str]:
        """Name the headers (lower case) that carry signatures or credentials: they are never stored."""


@dataclass(frozen=True, slots=True)
class Verification:
    """All verifiers of a source: each must pass. An empty one lets everything in (`type: none`)."""

    verifiers: tuple[Verifier, ...]
    #: How old a request may be; None when any age will do.
    age: AgeLimit | None = None
    #: Those that need a key from the provider's address before they can verify; mostly there are none.
    remote: tuple[RemoteVerifier, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "remote", remote_of(self.verifiers))

    def verify(self, request: Request, now: float) -> VerifiedRequest:
        """Return the verified request or raise `VerificationError`."""
        if len(self.verifiers) == 1:
            facts = self.verifiers[0].verify(request, now)
        else:
            facts = {}
            for verifier in self.verifiers:
                facts = {**verifier.verify(request, now), **facts}
        scopes = None if self.age is None else self.age.check(request, facts, now)
        return VerifiedRequest(request, facts, scopes)

    def needed(self, request: Request, now: float) -> tuple[RemoteVerifier, ...]:
        """List the verifiers that need a published key; none where another passes without one."""
        found: list[RemoteVerifier] = []
        for verifier in self.verifiers:
            needed = getattr(verifier, "needed", None)
            found.extend(needed(request, now) if needed else remote_of((verifier,)))
        return tuple(found)

    def sign(self, request: Request, now: float) -> Request:
        """Let every verifier add what it wants to see."""
        for verifier in self.verifiers:
            request = verifier.sign(request, now)
        return request


def ct_equal(left: bytes, right: bytes) -> bool:
    """Compare two secrets in constant time: the only place that does."""
    return hmac.compare_digest(left, right)


def single_header(request: Request, name: str) -> str | None:
    """Return the only value of a header, or None when it is absent.

    A header that is there twice is refused: which one a proxy, we and an app would read may differ.
    """
    values = request.headers.getall(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise VerificationError("duplicate_header")
    return values[0]
