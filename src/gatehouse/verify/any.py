"""`type: any`: alternative verifiers, which are tried in order until one passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.errors import GatewayError, VerificationError
from gatehouse.verify.base import AlternativeFacts, ProvenFacts, remote_verifiers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import Reason
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts, RemoteVerifier, Verifier

#: The reasons that help an operator most come first. A signature that was checked says more than a missing
#: one.
_MOST_INFORMATIVE_FIRST: tuple[Reason, ...] = (
    "wrong_signature",
    "stale_timestamp",
    "future_timestamp",
    "wrong_credentials",
    "malformed_timestamp",
    "malformed_signature",
    "duplicate_header",
    "malformed_body",
    "missing_signature",
)
_RANKS = {reason: rank for rank, reason in enumerate(_MOST_INFORMATIVE_FIRST)}


def most_informative(reasons: Iterable[Reason]) -> Reason:
    """Return the reason to report when every verifier refused. It does not depend on their order."""
    return min(reasons, key=_RANKS.__getitem__, default="missing_signature")


class AnyVerifier:
    """Tries the verifiers in order until one passes, and returns the facts of that one."""

    def __init__(self, verifiers: tuple[Verifier, ...]) -> None:
        self._verifiers = verifiers
        self.remote = remote_verifiers(verifiers)

    def verify(self, request: Request, now: float) -> Facts:
        reasons: list[Reason] = []
        for number, verifier in enumerate(self._verifiers):
            try:
                facts = verifier.verify(request, now)
            except VerificationError as error:
                reasons.append(error.reason)
            else:
                return _of_alternative(number, facts)
        raise VerificationError(most_informative(reasons))

    def needing_keys(self, request: Request, now: float) -> tuple[RemoteVerifier, ...]:
        """Return the verifiers that need a key and come before the first one that passes without one."""
        found: list[RemoteVerifier] = []
        for verifier in self._verifiers:
            remote = remote_verifiers((verifier,))
            if not remote and _passes(verifier, request, now):
                break
            found.extend(remote)
        return tuple(found)

    def sign(self, request: Request, now: float) -> Request:
        """Sign with the first verifier that can sign."""
        refusal: GatewayError | None = None
        for verifier in self._verifiers:
            try:
                return verifier.sign(request, now)
            except GatewayError as error:
                refusal = refusal or error
        raise refusal or VerificationError("missing_signature")

    def credential_headers(self) -> frozenset[str]:
        return frozenset().union(*(verifier.credential_headers() for verifier in self._verifiers))


def _of_alternative(number: int, facts: Facts) -> AlternativeFacts:
    found = AlternativeFacts(facts)
    found.alternative, found.secret = number, facts.secret if isinstance(facts, ProvenFacts) else 0
    return found


def _passes(verifier: Verifier, request: Request, now: float) -> bool:
    try:
        verifier.verify(request, now)
    except VerificationError:
        return False
    return True
