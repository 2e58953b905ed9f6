"""`type: any`: several ways to sign, of which the first whose signature is there decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.errors import VerificationError
from gatehouse.verify.keys import remote_of

if TYPE_CHECKING:
    from gatehouse.verify.base import Facts, Request, Verifier


class AnyVerifier:
    """Asks one verifier after the other, until one finds a signature of its kind.

    That one's verdict stands: what another would make of the rest of the request is never mixed into it.
    """

    def __init__(self, verifiers: tuple[Verifier, ...]) -> None:
        self._verifiers = verifiers
        self.remote = remote_of(verifiers)

    def verify(self, request: Request, now: float) -> Facts:
        for verifier in self._verifiers:
            try:
                return verifier.verify(request, now)
            except VerificationError as error:
                if error.reason != "missing_signature":
                    raise
        raise VerificationError("missing_signature")

    def sign(self, request: Request, now: float) -> Request:
        return self._verifiers[0].sign(request, now)

    def credential_headers(self) -> frozenset[str]:
        return frozenset().union(*(verifier.credential_headers() for verifier in self._verifiers))
