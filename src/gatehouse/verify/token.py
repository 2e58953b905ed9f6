"""`type: token`: a shared token that the provider sends as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.document import MalformedDocumentError
from gatehouse.errors import GatewayError, VerificationError
from gatehouse.template import Scope
from gatehouse.verify.base import Proof, Request, ct_equal, single_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import TokenConfig


class TokenVerifier:
    """Compares a header or a query parameter with every live token."""

    def __init__(self, config: TokenConfig, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        self._header = config.header
        self._query = config.query
        self._prefix = config.prefix
        self._expected = tuple(config.prefix.encode() + secret for secret in secrets)

    def verify(self, request: Request, now: float) -> Proof:  # noqa: ARG002 - a token has no time
        text = self._text(request)
        if not text:
            raise VerificationError("missing_signature")
        given = text.encode("utf-8", "surrogateescape")
        if not any([ct_equal(given, expected) for expected in self._expected]):  # noqa: C419 - compares with all
            raise VerificationError("wrong_credentials")
        return Proof()

    def sign(self, request: Request, now: float) -> dict[str, str]:  # noqa: ARG002
        if not self._header:
            raise GatewayError("a token in the query stands in the URL, not in a header")
        return {self._header: self._expected[0].decode()}

    def credential_headers(self) -> frozenset[str]:
        return frozenset({self._header.lower()}) if self._header else frozenset()

    def _text(self, request: Request) -> str | None:
        if self._header:
            return single_header(request, self._header)
        try:
            return Scope(request).query.get(self._query or "")
        except MalformedDocumentError:
            return None
