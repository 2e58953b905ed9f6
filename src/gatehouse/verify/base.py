"""What a verifier receives and returns. Only `Verification.verify` makes a `VerifiedRequest`.

Verifiers do no I/O. `remote_keys` asks them for the address of a published key before they verify, and
fetches it. A verifier names pinned addresses only: whoever chooses the address of the key can sign
anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from gatehouse.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import UnavailableError
    from gatehouse.language.request import Request
    from gatehouse.language.scope import Scope


#: What a verifier learned on the way to its yes, by the name of its placeholder: `timestamp`, as sent; `id`,
#: the signed id; `signed`, the signed bytes; `claims`, what a token says. What a scheme has not is missing.
Facts = Mapping[str, bytes]

NO_FACTS: Facts = {}


class ProvenFacts(dict[str, bytes]):
    """Facts, with the secret that they were proved with: its position among those of the verifier, from 1."""

    __slots__ = ("secret",)

    secret: int


def proven_with(secret: int) -> ProvenFacts:
    """Make facts that were proved with this secret; there are none yet."""
    # No `__init__`: a call that the hot path does without.
    facts = ProvenFacts()
    facts.secret = secret
    return facts


class VerifiedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that passed every verifier of its source. Events are read from nothing else."""

    request: Request
    facts: Facts = {}
    #: Which secret it was proved with: the position in the source's list, from 1; 0 where there is no secret.
    secret: int = 0
    #: The same of further verifiers, where a source has several that must all pass.
    other_secrets: tuple[int, ...] = ()
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
        object.__setattr__(self, "remote", remote_verifiers(self.verifiers))

    def verify(self, request: Request, now: float) -> VerifiedRequest:
        """Return the verified request or raise `VerificationError`."""
        other_secrets: tuple[int, ...] = ()
        if len(self.verifiers) == 1:
            facts = self.verifiers[0].verify(request, now)
            secret = facts.secret if facts.__class__ is ProvenFacts else 0
        else:
            found = [verifier.verify(request, now) for verifier in self.verifiers]
            facts = {name: value for one in reversed(found) for name, value in one.items()}
            secret, *rest = [one.secret for one in found if isinstance(one, ProvenFacts) and one.secret] or [
                0
            ]
            other_secrets = tuple(rest)
        scopes = None if self.age is None else self.age.check(request, facts, now)
        return VerifiedRequest(request, facts, secret, other_secrets, scopes)

    def needing_keys(self, request: Request, now: float) -> tuple[RemoteVerifier, ...]:
        """List the verifiers that need a published key; none where another passes without one."""
        found: list[RemoteVerifier] = []
        for verifier in self.verifiers:
            find = getattr(verifier, "needing_keys", None)
            found.extend(find(request, now) if find else remote_verifiers((verifier,)))
        return tuple(found)

    def sign(self, request: Request, now: float) -> Request:
        """Let every verifier add what it wants to see."""
        for verifier in self.verifiers:
            request = verifier.sign(request, now)
        return request


class OwnSecretsVerifier:
    """A verifier with secrets of its own: it tells them by their positions among all of the source's."""

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
    """Return which of the expected bytes these are, from 1; 0 for none. It takes as long whichever it is."""
    found = [ct_equal(given, one) for one in expected]
    return found.index(True) + 1 if True in found else 0


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


class KnownKeys(Protocol):
    """What addresses answered, as far as they were asked."""

    def get(self, url: str) -> bytes | None:
        """Return what the address holds: a certificate in PEM, a JSON Web Key Set. None: not known."""


class RemoteVerifier(Protocol):
    """A verifier that needs a key from an address."""

    #: Where it looks keys up; whoever fetches them sets it.
    keys: KnownKeys

    def key_url(self, request: Request) -> str | None:
        """Name the address of the key for this request; None when the request carries no such signature.

        Raises `VerificationError` when the request can't pass whatever the key, above all when it names an
        address that the provider does not publish keys at.
        """

    def is_outdated(self, request: Request, key: bytes) -> bool:
        """Tell whether what the address held lacks the key of this request: it is worth asking again."""


class PreparedKeys(NamedTuple):
    """What came of getting the keys that a request needs."""

    #: The addresses of the keys.
    urls: tuple[str, ...]
    #: Why one of them can't be asked now, if one can't.
    unavailable: UnavailableError | None = None


class NoKeys:
    """Knows nothing: the keys of a verifier for which nothing was fetched."""

    def get(self, url: str) -> bytes | None:  # noqa: ARG002
        """Return None."""
        return None


def remote_verifiers(verifiers: Iterable[object]) -> tuple[RemoteVerifier, ...]:
    """List those that need keys from an address: what the verifiers name in `remote`, mostly themselves."""
    return tuple(remote for verifier in verifiers for remote in getattr(verifier, "remote", ()))


def fetched_key(verifier: RemoteVerifier, request: Request) -> bytes:
    """Return the key for a request. Raises `VerificationError` when there is none at its address."""
    url = verifier.key_url(request)
    if url is None:
        raise VerificationError("missing_signature")
    key = verifier.keys.get(url)
    if key is None:
        raise VerificationError("wrong_signature")
    return key
