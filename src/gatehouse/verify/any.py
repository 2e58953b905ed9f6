"""`type: any`: several ways to prove where a request comes from. They are tried in order until one passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.errors import GatewayError, VerificationError
from gatehouse.verify.base import remote_verifiers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.errors import Reason
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts, RemoteVerifier, Verifier

#: The reasons that tell an operator most come first: a signature that was checked says more than one that is
#: not there.
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
    """Choose the reason to report when every verifier refused. The order of the verifiers plays no part."""
    return min(reasons, key=_RANKS.__getitem__, default="missing_signature")


class AnyVerifier:
    """Tries one verifier after the other until one passes. Only that one's facts count."""

    def __init__(self, verifiers: tuple[Verifier, ...]) -> None:
        self._verifiers = verifiers
        self.remote = remote_verifiers(verifiers)

    def verify(self, request: Request, now: float) -> Facts:
        reasons: list[Reason] = []
        for verifier in self._verifiers:
            try:
                return verifier.verify(request, now)
            except VerificationError as error:
                reasons.append(error.reason)
        raise VerificationError(most_informative(reasons))

    def needing_keys(self, request: Request, now: float) -> tuple[RemoteVerifier, ...]:
        """List the verifiers that need a published key before the first one that passes without."""
        found: list[RemoteVerifier] = []
        for verifier in self._verifiers:
            remote = remote_verifiers((verifier,))
            if not remote and _passes(verifier, request, now):
                break
            found.extend(remote)
        return tuple(found)

    def sign(self, request: Request, now: float) -> Request:
        """Sign with the first verifier that can."""
        refusal: GatewayError | None = None
        for verifier in self._verifiers:
            try:
                return verifier.sign(request, now)
            except GatewayError as error:
                refusal = refusal or error
        raise refusal or VerificationError("missing_signature")

    def credential_headers(self) -> frozenset[str]:
        return frozenset().union(*(verifier.credential_headers() for verifier in self._verifiers))


def _passes(verifier: Verifier, request: Request, now: float) -> bool:
    try:
        verifier.verify(request, now)
    except VerificationError:
        return False
    return True
