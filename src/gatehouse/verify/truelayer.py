"""`type: truelayer`: the detached JWS of TrueLayer's webhooks.

https://github.com/TrueLayer/truelayer-signing (request-signing-v2.md): `Tl-Signature` is a JWS without its
content (RFC 7515, appendix F), signed with ES512. The content is the method and the path, the headers that
the JWS names, and the body. The JWS also names the URL of the key, which must be the configured one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import decode_strict, only_provider_can_sign
from gatehouse.verify.base import KnownKeys, NoKeys, RemoteVerifier, fetched_key, single_header
from gatehouse.verify.freshness import check_timestamp
from gatehouse.verify.jws import key_set_checks, string_member
from gatehouse.verify.signature import ENCODERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import TruelayerConfig
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts
    from gatehouse.verify.jws import SignatureCheck

_HEADER = "Tl-Signature"
_TIMESTAMP = "X-TL-Webhook-Timestamp"
#: The signature has 250 to 400 characters.
_MAX_LENGTH = 4096
#: The names of the signed headers, each at most once.
_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(,[A-Za-z0-9-]{1,64}){0,15}")


class _Signature(msgspec.Struct, frozen=True):
    """A parsed signature. It can't be trusted until it has been checked."""

    kid: str
    key_url: str
    #: The names of the signed headers, in signing order.
    names: tuple[str, ...]
    #: The protected header, as sent.
    header: bytes
    signature: bytes


class TruelayerVerifier:
    """Verifies the signature with the published keys, and the age of the signed timestamp."""

    def __init__(self, config: TruelayerConfig, secrets: Sequence[bytes]) -> None:  # noqa: ARG002 - has no secret
        self._config = config
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,)

    def verify(self, request: Request, now: float) -> Facts:
        parsed = self._parse(request)
        if parsed is None:
            raise VerificationError("missing_signature")
        checks = _checks(parsed, fetched_key(self, request))
        # TrueLayer signs the path without a slash at its end. Its libraries accept both forms.
        for path in (request.path, request.path[:-1] if request.path.endswith("/") else request.path + "/"):
            content = _content(request, path, parsed.names)
            signed = parsed.header + b"." + ENCODERS["base64url"](content)
            if any(check(signed, parsed.signature) for check in checks):
                sent = single_header(request, _TIMESTAMP)
                return {
                    "signed": content,
                    "timestamp": check_timestamp(sent, "iso8601", self._config.max_age, now),
                }
        raise VerificationError("wrong_signature")

    def sign(self, request: Request, now: float) -> Request:  # noqa: ARG002
        raise only_provider_can_sign("TrueLayer")

    def credential_headers(self) -> frozenset[str]:
        return frozenset({_HEADER.lower()})

    def key_url(self, request: Request) -> str | None:
        parsed = self._parse(request)
        return None if parsed is None else parsed.key_url

    def is_outdated(self, request: Request, key: bytes) -> bool:
        """Return whether the key set lacks the key of the signature: TrueLayer may have a new key."""
        parsed = self._parse(request)
        return parsed is not None and not _checks(parsed, key)

    def _parse(self, request: Request) -> _Signature | None:
        text = single_header(request, _HEADER)
        if not text:
            return None
        if len(text) > _MAX_LENGTH or not text.isascii():
            raise VerificationError("malformed_signature")
        header, _, encoded = as_sent(text).partition(b"..")
        raw, signature = decode_strict(header, "base64url"), decode_strict(encoded, "base64url")
        if not raw or not signature:
            raise VerificationError("malformed_signature")
        try:
            return self._read(Document(raw), header, signature)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_signature") from error

    def _read(self, header: Document, sent: bytes, signature: bytes) -> _Signature:
        algorithm, version, kid, names, url = (
            string_member(header, name) for name in ("alg", "tl_version", "kid", "tl_headers", "jku")
        )
        is_known = algorithm == "ES512" and version == "2" and header.raw(("crit",)) is None
        if not is_known or not kid or not names or not _NAMES.fullmatch(names):
            raise VerificationError("malformed_signature")
        listed = tuple(names.split(","))
        lower = [name.lower() for name in listed]
        if _TIMESTAMP.lower() not in lower or len(set(lower)) < len(lower):
            raise VerificationError("malformed_signature")
        if url != self._config.jwks:
            raise VerificationError("wrong_credentials")
        return _Signature(kid, url, listed, sent, signature)


def _checks(parsed: _Signature, key_set: bytes) -> list[SignatureCheck]:
    """Return the checks for the published keys with the key id of the signature."""
    return [check for kid, check in key_set_checks(key_set, "ES512") if kid == parsed.kid]


def _content(request: Request, path: str, names: Sequence[str]) -> bytes:
    lines = [f"{request.method} {path}"]
    for name in names:
        value = single_header(request, name)
        if value is None:
            raise VerificationError("wrong_signature")
        lines.append(f"{name}: {value}")
    return as_sent("\n".join(lines)) + b"\n" + request.body
