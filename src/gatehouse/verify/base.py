"""Defines the protocol of verifiers and their result. Only `Verification.verify` creates a `VerifiedRequest`.

Verifiers do no I/O. Before a request is verified, `remote_keys` asks the verifiers for the URLs of the
published keys that they need, and fetches these keys. A verifier returns only pinned URLs: a sender that
could choose the URL of the key could sign anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from gatehouse.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import UnavailableError
    from gatehouse.language.request import Request
    from gatehouse.language.scope import Scope
    from gatehouse.verify.verified_by import VerifiedBy


#: What a verifier read from a request that it accepted, by placeholder: `timestamp` (as sent), `id` (the
#: signed id), `signed` (the signed bytes) and `claims` (the claims of a token). Values that a scheme does not
#: have are missing.
Facts = Mapping[str, bytes]

NO_FACTS: Facts = {}


class ProvenFacts(dict[str, bytes]):
    """Facts, with the secret that verified the request: its position among the verifier's secrets, from 1."""

    __slots__ = ("secret",)

    secret: int


def proven_with(secret: int) -> ProvenFacts:
    """Return facts that hold nothing but the position of the secret. The caller adds to them."""
    # An `__init__` would be one more call on the hot path.
    facts = ProvenFacts()
    facts.secret = secret
    return facts


class AlternativeFacts(ProvenFacts):
    """Facts of one alternative of `type: any`, with the number of the alternative, from 0."""

    __slots__ = ("alternative",)

    alternative: int


class VerifiedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that passed every verifier of its source. Events are read only from such requests."""

    request: Request
    facts: Facts = {}
    #: The secret that verified the request: its position in the source's list, from 1. 0 if no secret was
    #: used.
    secret: int = 0
    #: The secrets of the other verifiers, if the source has several verifiers that must all pass.
    other_secrets: tuple[int, ...] = ()
    #: What the templates of the events can read, if verification needed it already; otherwise None.
    scopes: tuple[Scope, ...] | None = None
    #: How it was verified, as `VerifiedBy` says it.
    verified_by: str | None = None


class AgeLimit(Protocol):
    """The limit for the age of a request."""

    def check(self, request: Request, facts: Facts, now: float) -> tuple[Scope, ...] | None:
        """Refuse a verified request that was signed too long ago. Raises `VerificationError`.

        Returns the scopes of the events if the check needed them.
        """


class Verifier(Protocol):
    """One authentication scheme with its secrets."""

    def verify(self, request: Request, now: float) -> Facts:
        """Verify the request at the time `now` (Unix seconds).

        Raises `VerificationError` if the request does not pass. Raises nothing else, whatever the input is.
        """

    def sign(self, request: Request, now: float) -> Request:
        """Return the request with the signature or credentials that the provider would send at `now`.

        This is the inverse of `verify`, for the commands `sign`, `send` and `demo` and for tests. Raises
        `VerificationError` if the scheme can't sign the body, and `GatewayError` if only the provider can
        sign, as with an asymmetric scheme or an allowlist.
        """

    def credential_headers(self) -> frozenset[str]:
        """Return the headers (lower case) that contain signatures or credentials. They are never stored."""


@dataclass(frozen=True, slots=True)
class Verification:
    """All verifiers of a source: each must pass. Without verifiers, every request passes (`type: none`)."""

    verifiers: tuple[Verifier, ...]
    #: The texts that say how a request was verified.
    verified_by: VerifiedBy
    #: The limit for the age of a request; None if there is no limit.
    age: AgeLimit | None = None
    #: The verifiers that need a published key before they can verify. Most sources have none.
    remote: tuple[RemoteVerifier, ...] = field(init=False)
    #: The texts by the position of the secret, for one verifier without alternatives. Most sources have that.
    _by_secret: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "remote", remote_verifiers(self.verifiers))
        object.__setattr__(self, "_by_secret", self.verified_by.by_secret)

    def verify(self, request: Request, now: float) -> VerifiedRequest:
        """Return the verified request, or raise `VerificationError`."""
        other_secrets: tuple[int, ...] = ()
        if self._by_secret:
            facts = self.verifiers[0].verify(request, now)
            secret = facts.secret if facts.__class__ is ProvenFacts else 0
            verified_by = self._by_secret[secret]
        else:
            found = [verifier.verify(request, now) for verifier in self.verifiers]
            facts = {name: value for one in reversed(found) for name, value in one.items()}
            secret, *rest = [one.secret for one in found if isinstance(one, ProvenFacts) and one.secret] or [
                0
            ]
            other_secrets = tuple(rest)
            verified_by = self.verified_by.of(tuple(map(_alternative_and_secret, found)))
        scopes = None if self.age is None else self.age.check(request, facts, now)
        return VerifiedRequest(request, facts, secret, other_secrets, scopes, verified_by)

    @property
    def without_age(self) -> Verification:
        """The same verification without the age limit, which may need the decoded body."""
        return replace(self, age=None)

    def needing_keys(self, request: Request, now: float) -> tuple[RemoteVerifier, ...]:
        """Return the verifiers that need a published key, unless an alternative passes without one."""
        found: list[RemoteVerifier] = []
        for verifier in self.verifiers:
            find = getattr(verifier, "needing_keys", None)
            found.extend(find(request, now) if find else remote_verifiers((verifier,)))
        return tuple(found)

    def sign(self, request: Request, now: float) -> Request:
        """Sign the request with every verifier."""
        for verifier in self.verifiers:
            request = verifier.sign(request, now)
        return request


def _alternative_and_secret(facts: Facts) -> tuple[int, int]:
    alternative = facts.alternative if isinstance(facts, AlternativeFacts) else 0
    return alternative, facts.secret if isinstance(facts, ProvenFacts) else 0


class OwnSecretsVerifier:
    """Wraps a verifier that has its own `secrets`: it returns positions among all secrets of the source."""

    def __init__(self, verifier: Verifier, positions: tuple[int, ...]) -> None:
        self._verifier = verifier
        self._positions = positions

    def verify(self, request: Request, now: float) -> Facts:
        facts = self._verifier.verify(request, now)
        if isinstance(facts, ProvenFacts) and facts.secret:
            facts.secret = self._positions[facts.secret - 1]
        return facts

    def sign(self, request: Request, now: float) -> Request:
        return self._verifier.sign(request, now)

    def credential_headers(self) -> frozenset[str]:
        return self._verifier.credential_headers()


def matching_position(given: bytes, expected: Sequence[bytes]) -> int:
    """Return the position of the expected value that matches, from 1; 0 for none. Takes constant time."""
    found = [ct_equal(given, one) for one in expected]
    return found.index(True) + 1 if True in found else 0


def ct_equal(left: bytes, right: bytes) -> bool:
    """Compare two secrets in constant time. No other function compares secrets."""
    return hmac.compare_digest(left, right)


def single_header(request: Request, name: str) -> str | None:
    """Return the value of a header; None if the header is missing.

    Raises `VerificationError` if the header occurs twice: a proxy, the gateway and an application might each
    read a different one.
    """
    values = request.headers.getall(name, ())
    if not values:
        return None
    if len(values) > 1:
        raise VerificationError("duplicate_header")
    return values[0]


class KnownKeys(Protocol):
    """The published keys that have been fetched so far."""

    def get(self, url: str) -> bytes | None:
        """Return the key that this URL serves (a certificate in PEM, or a JWKS); None if it is not known."""


class RemoteVerifier(Protocol):
    """A verifier that needs a published key."""

    #: Looks up keys. The object that fetches the keys sets it.
    keys: KnownKeys

    def key_url(self, request: Request) -> str | None:
        """Return the URL of the key for this request; None if the request has no signature of this scheme.

        Raises `VerificationError` if the request can't pass with any key, above all if it names a URL at
        which the provider does not publish keys.
        """

    def is_outdated(self, request: Request, key: bytes) -> bool:
        """Return whether the fetched key set lacks the key of this request, so that a new fetch may help."""


class PreparedKeys(NamedTuple):
    """The result of fetching the keys that a request needs."""

    #: The URLs of the keys.
    urls: tuple[str, ...]
    #: The error if a key can't be fetched now.
    unavailable: UnavailableError | None = None


class NoKeys:
    """No keys: the initial value of `RemoteVerifier.keys`."""

    def get(self, url: str) -> bytes | None:  # noqa: ARG002
        """Return None."""
        return None


def remote_verifiers(verifiers: Iterable[object]) -> tuple[RemoteVerifier, ...]:
    """Return the verifiers that need published keys. Each verifier lists itself or others in `remote`."""
    return tuple(remote for verifier in verifiers for remote in getattr(verifier, "remote", ()))


def fetched_key(verifier: RemoteVerifier, request: Request) -> bytes:
    """Return the key for a request. Raises `VerificationError` if its URL serves no key."""
    url = verifier.key_url(request)
    if url is None:
        raise VerificationError("missing_signature")
    key = verifier.keys.get(url)
    if key is None:
        raise VerificationError("wrong_signature")
    return key
