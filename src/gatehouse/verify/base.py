"""What a verifier sees and what it gives back. Only `Verification.verify` makes a `VerifiedRequest`."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from gatehouse.errors import VerificationError

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy


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


class VerifiedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that passed every verifier of its source. Events are read from nothing else."""

    request: Request
    #: The timestamp as sent, when the scheme has one.
    timestamp: bytes | None = None
    #: The bytes that were signed, when the scheme signs.
    signed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What one verifier learned on the way to its yes."""

    timestamp: bytes | None = None
    signed: bytes | None = None


class Verifier(Protocol):
    """One authentication scheme with its secrets."""

    def verify(self, request: Request, now: float) -> Proof:
        """Check the request against the clock `now` (unix seconds).

        Raises `VerificationError` when the request does not pass, and nothing else, whatever the input.
        """

    def sign(self, request: Request, now: float) -> dict[str, str]:
        """Make the headers with which the provider would send this request at `now`.

        The inverse of `verify`, for the `sign`, `send` and `demo` commands and for tests.
        """

    def credential_headers(self) -> frozenset[str]:
        """Name the headers (lower case) that carry signatures or credentials: they are never stored."""


@dataclass(frozen=True, slots=True)
class Verification:
    """All verifiers of a source: each must pass. An empty one lets everything in (`type: none`)."""

    verifiers: tuple[Verifier, ...]

    def verify(self, request: Request, now: float) -> VerifiedRequest:
        """Return the verified request or raise `VerificationError`."""
        timestamp = signed = None
        for verifier in self.verifiers:
            proof = verifier.verify(request, now)
            timestamp = timestamp if timestamp is not None else proof.timestamp
            signed = signed if signed is not None else proof.signed
        return VerifiedRequest(request, timestamp, signed)

    def sign(self, request: Request, now: float) -> dict[str, str]:
        """Merge the headers of all verifiers."""
        headers: dict[str, str] = {}
        for verifier in self.verifiers:
            headers |= verifier.sign(request, now)
        return headers


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
