"""`type: basic`: HTTP Basic credentials (RFC 7617), as in the URL `https://user:password@host/…`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from gatehouse.errors import VerificationError
from gatehouse.language.request import Request, as_sent
from gatehouse.verify.base import Facts, matching_position, proven_with, single_header
from gatehouse.verify.places import with_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import BasicConfig

_HEADER = "Authorization"


class BasicVerifier:
    """Compares the credentials with each configured `username:password`."""

    def __init__(self, config: BasicConfig, secrets: Sequence[bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("a verifier needs a secret")
        pairs = secrets if config.username is None else [as_sent(f"{config.username}:") + s for s in secrets]
        if not all(b":" in pair for pair in pairs):
            raise ValueError("the secret must be username:password, unless username is configured")
        self._expected = tuple(base64.b64encode(pair) for pair in pairs)

    def verify(self, request: Request, now: float) -> Facts:  # noqa: ARG002 - credentials have no timestamp
        text = single_header(request, _HEADER)
        if not text:
            raise VerificationError("missing_signature")
        scheme, _, given = as_sent(text).partition(b" ")
        secret = matching_position(given, self._expected)
        if scheme.lower() != b"basic" or not secret:
            raise VerificationError("wrong_credentials")
        return proven_with(secret)

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        return with_header(request, _HEADER, "Basic " + self._expected[0].decode())

    def credential_headers(self) -> frozenset[str]:
        return frozenset({_HEADER.lower()})
