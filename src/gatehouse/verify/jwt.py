"""`type: jwt`: a signed token (RFC 7519), in a header, as the whole body, or inside it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import VerificationError
from gatehouse.language.document import Document, MalformedDocumentError, with_value
from gatehouse.language.request import as_sent
from gatehouse.verify.asymmetric import only_provider_can_sign
from gatehouse.verify.base import (
    KnownKeys,
    NoKeys,
    RemoteVerifier,
    ct_equal,
    fetched_key,
    proven_with,
    single_header,
)
from gatehouse.verify.certificates import CertificateChains
from gatehouse.verify.jws import (
    Token,
    hs256_key,
    jwk_check,
    key_set_checks,
    make_check,
    make_token,
    parse_token,
    string_member,
)
from gatehouse.verify.places import with_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatehouse.config.model import JwtConfig
    from gatehouse.language.document import Path
    from gatehouse.language.request import Request
    from gatehouse.verify.base import Facts
    from gatehouse.verify.jws import SignatureCheck

_HEADER = b'{"alg":"HS256","typ":"JWT"}'
#: The lifetime of the tokens that `sign` creates.
_LIFETIME_SECONDS = 300


class JwtVerifier:
    """Checks the signature of a token with each key, then its times, issuer, audience and body hash."""

    def __init__(self, config: JwtConfig, secrets: Sequence[bytes]) -> None:
        if config.needs_secret and not secrets:
            raise ValueError("a verifier needs a secret, a JWKS URL or certificates")
        self._config = config
        self._secrets = tuple(secrets) if config.needs_secret else ()
        self._checks = [_configured_check(secret, config) for secret in self._secrets]
        self._required = [
            ([tuple(path.split(".")) for path in one.claim], one.value) for one in config.claims
        ]
        self._path = tuple(config.body.split(".")) if isinstance(config.body, str) else ()
        self._chains = CertificateChains(config.certificates) if config.certificates else None
        self.keys: KnownKeys = NoKeys()
        self.remote: tuple[RemoteVerifier, ...] = (self,) if config.jwks else ()

    def verify(self, request: Request, now: float) -> Facts:
        token = self._token(request)
        if token is None:
            raise VerificationError("missing_signature")
        checks = enumerate(self._checks_for(token, request, now), 1)
        position = next((n for n, check in checks if check(token.signed, token.signature)), 0)
        if not position:
            raise VerificationError("wrong_signature")
        try:
            claims = _parse_claims(token.claims)
            self._check_claims(claims, request, now)
            timestamp = claims.raw((self._config.issued.claim,)) or claims.raw(("exp",))
        except MalformedDocumentError as error:
            raise VerificationError("malformed_signature") from error
        facts = proven_with(position if self._secrets else 0)
        facts["claims"] = token.claims
        if timestamp is not None:
            facts["timestamp"] = timestamp
        if self._config.body:
            facts["signed"] = token.signed
        return facts

    def sign(self, request: Request, now: float) -> Request:
        config = self._config
        if config.algorithm != "HS256":
            raise only_provider_can_sign(f"a token with {config.algorithm}")
        try:
            claims = self._make_claims(request, now)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        token = make_token(_HEADER, claims, hs256_key(self._secrets[0], config.key))
        if config.header is None:
            body = with_value(b"{}", self._path, msgspec.json.encode(token.decode())) if self._path else token
            return msgspec.structs.replace(request, body=body)
        return with_header(request, config.header, config.prefix + token.decode())

    def credential_headers(self) -> frozenset[str]:
        return frozenset({self._config.header.lower()} if self._config.header else ())

    def key_url(self, request: Request) -> str | None:
        """Return the configured JWKS URL, if the request has a well-formed token."""
        return None if self._token(request) is None else self._config.jwks

    def is_outdated(self, request: Request, key: bytes) -> bool:
        """Return whether the key set lacks the key id of the token: the provider may have a new key."""
        token = self._token(request)
        return token is not None and not any(_published_checks(token, key, self._config))

    def _token(self, request: Request) -> Token | None:
        """Parse the token; None if it is missing. Raises `VerificationError` if it is malformed."""
        config = self._config
        if config.header is None:
            found = self._token_in_body(request.body) if self._path else request.body
            return parse_token(found, config.algorithm) if found else None
        text = single_header(request, config.header)
        if not text:
            return None
        if not text.startswith(config.prefix) or not text.isascii():
            raise VerificationError("malformed_signature")
        return parse_token(as_sent(text.removeprefix(config.prefix)), config.algorithm)

    def _token_in_body(self, body: bytes) -> bytes | None:
        """Return the text at the path of the token; None if it is missing."""
        document = Document(body)
        try:
            raw, text = document.raw(self._path), document.text(self._path)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_body") from error
        if raw is None or text is None:
            return None
        if not raw.startswith(b'"') or not text.isascii():
            raise VerificationError("malformed_signature")
        return as_sent(text)

    def _checks_for(self, token: Token, request: Request, now: float) -> Iterable[SignatureCheck]:
        if self._chains is not None:
            return (self._chains.check_of(token, self._signed_at(token, now)),)
        if self._config.jwks is None:
            return self._checks
        return _published_checks(token, fetched_key(self, request), self._config)

    def _signed_at(self, token: Token, now: float) -> float:
        """Return the time at which a token claims to be signed, if it is recent. Nothing is verified yet."""
        try:
            claims = _parse_claims(token.claims)
            self._check_times(claims, now)
            issued = self._issued(claims)
        except MalformedDocumentError as error:
            raise VerificationError("malformed_signature") from error
        if issued is None:
            raise VerificationError("malformed_timestamp")
        return issued

    def _issued(self, claims: Document) -> float | None:
        issued = _time_claim(claims, self._config.issued.claim)
        return issued / 1000 if issued is not None and self._config.issued.unit == "ms" else issued

    def _check_claims(self, claims: Document, request: Request, now: float) -> None:
        config = self._config
        self._check_times(claims, now)
        if config.issuer is not None and string_member(claims, "iss") != config.issuer:
            raise VerificationError("wrong_credentials")
        if config.audience is not None and config.audience not in _audiences(claims):
            raise VerificationError("wrong_credentials")
        if not all(_has_value(claims, paths, value) for paths, value in self._required):
            raise VerificationError("wrong_credentials")
        if config.body_hash is not None:
            claimed = string_member(claims, config.body_hash.claim) or ""
            if not ct_equal(as_sent(claimed), _body_hash(request.body)):
                raise VerificationError("wrong_signature")

    def _check_times(self, claims: Document, now: float) -> None:
        """Check `exp`, `nbf` and the time of issue, if present (RFC 7519, 4.1.4 to 4.1.6)."""
        leeway, max_age = self._config.leeway, self._config.max_age
        expires, begins = (_time_claim(claims, name) for name in ("exp", "nbf"))
        issued = self._issued(claims)
        if max_age is not None and issued is None:
            raise VerificationError("malformed_timestamp")
        if expires is not None and now >= expires + leeway:
            raise VerificationError("stale_timestamp")
        if max_age is not None and issued is not None and now - issued > max_age:
            raise VerificationError("stale_timestamp")
        if any(moment is not None and moment - leeway > now for moment in (begins, issued)):
            raise VerificationError("future_timestamp")

    def _make_claims(self, request: Request, now: float) -> bytes:
        """Create the claims of the provider. With `body`, they are added to the members of the body."""
        config = self._config
        issued = int(now) * (1000 if config.issued.unit == "ms" else 1)
        claims: dict[str, object] = {config.issued.claim: issued, "exp": int(now) + _LIFETIME_SECONDS}
        claims |= {"iss": config.issuer} if config.issuer is not None else {}
        claims |= {"aud": config.audience} if config.audience is not None else {}
        if config.body_hash is not None:
            claims[config.body_hash.claim] = _body_hash(request.body).decode()
        document = request.body if config.body else b"{}"
        wanted: list[tuple[Path, object]] = [((name,), value) for name, value in claims.items()]
        wanted += [(paths[0], value) for paths, value in self._required]
        for path, value in wanted:
            document = with_value(document, path, msgspec.json.encode(value))
        return document


def _configured_check(secret: bytes, config: JwtConfig) -> SignatureCheck:
    """Create the check for a configured secret. Raises `ValueError` if the secret is malformed."""
    if config.key == "pem" and secret.lstrip().startswith(b"{"):
        return jwk_check(secret, config.algorithm)
    return make_check(config.algorithm, secret, config.key)


def _published_checks(token: Token, key_set: bytes, config: JwtConfig) -> list[SignatureCheck]:
    """Return the checks for the published keys with the token's key id; for all keys if it has none."""
    return [
        check
        for kid, check in key_set_checks(key_set, config.algorithm)
        if token.kid is None or kid == token.kid
    ]


def _parse_claims(raw: bytes) -> Document:
    if not raw.lstrip().startswith(b"{"):
        raise MalformedDocumentError("claims must be a JSON object")
    return Document(raw)


def _time_claim(claims: Document, name: str) -> float | None:
    """Return a time in Unix seconds; None if the claim is missing."""
    raw = claims.raw((name,))
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=float)
    except msgspec.MsgspecError as error:
        raise VerificationError("malformed_timestamp") from error


def _audiences(claims: Document) -> list[str]:
    """Return `aud`, which is a string or a list of strings (RFC 7519, 4.1.3)."""
    raw = claims.raw(("aud",))
    try:
        audience = msgspec.json.decode(raw or b"[]", type=str | list[str])
    except msgspec.MsgspecError:
        return []
    return [audience] if isinstance(audience, str) else audience


def _has_value(claims: Document, paths: Sequence[Path], required: str | bool) -> bool:
    """Return whether the token contains one of the claims, and each one that it contains has the value."""
    present = [value for value in map(claims.raw, paths) if value is not None]
    return bool(present) and all(value == required for value in map(_decode, present))


def _decode(raw: bytes) -> object:
    """Decode a claim that is text or a boolean; None for any other claim."""
    try:
        return msgspec.json.decode(raw, type=str | bool)
    except msgspec.MsgspecError:
        return None


def _body_hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
