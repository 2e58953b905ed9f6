"""`type: token`: a shared token that the provider sends unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import with_value
from gatehouse.language.request import Request, as_sent
from gatehouse.language.scope import Scope
from gatehouse.language.split import Split
from gatehouse.verify.base import Facts, matching_position, proven_with
from gatehouse.verify.places import place
from gatehouse.verify.signature import signed_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import TokenConfig


class TokenVerifier:
    """Compares the token of a request, or of each item of its body, with each configured token."""

    def __init__(self, config: TokenConfig, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        headers = (config.header,) if config.header else ()
        self._place = place(headers=headers, query=config.query, form=config.form, body=config.body)
        self._expected = tuple(as_sent(config.prefix) + secret for secret in secrets)
        self._each_path = tuple(config.each.split(".")) if config.each else ()
        self._each = Split(self._each_path) if config.each else None

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - a token has no timestamp
        if self._each is None:
            return proven_with(self._check(Scope(request)))
        items = signed_items(request, self._each)
        return proven_with(max(self._check(Scope(request, body=raw, outer=outer)) for raw, outer in items))

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        token = self._expected[0].decode()
        if self._each is None:
            return self._place.write(request, token)
        items = [msgspec.structs.replace(request, body=raw) for raw, _ in signed_items(request, self._each)]
        signed = b", ".join(self._place.write(item, token).body for item in items)
        return msgspec.structs.replace(
            request, body=with_value(request.body, self._each_path, b"[" + signed + b"]")
        )

    def credential_headers(self) -> frozenset[str]:
        return self._place.header_names()

    def _check(self, scope: Scope) -> int:
        text = self._place.read(scope)
        if not text:
            raise VerificationError("missing_signature")
        secret = matching_position(as_sent(text), self._expected)
        if not secret:
            raise VerificationError("wrong_credentials")
        return secret
