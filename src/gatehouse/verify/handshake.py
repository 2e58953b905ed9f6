"""Recognizes handshakes and decides their replies. This module stores and fetches nothing."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from gatehouse.errors import ForbiddenError, MalformedRequestError, UnavailableError, VerificationError
from gatehouse.language.document import MalformedDocumentError
from gatehouse.language.request import as_sent
from gatehouse.language.scope import Scope
from gatehouse.verify.base import ct_equal
from gatehouse.verify.hmac import key_bytes
from gatehouse.verify.signature import ENCODERS

if TYPE_CHECKING:
    from gatehouse.config.handshakes import HandshakeAnswer, HandshakeConfig, HashProof, HmacProof
    from gatehouse.language.request import Request
    from gatehouse.language.template import Template
    from gatehouse.verify.base import Facts, VerifiedRequest

#: The maximum length of a challenge in characters, whatever `form` allows.
MAX_CHALLENGE = 4096
_MAX_SHOWN = 1024
#: Only URLs that every URL parser reads alike: no user name, no other port, no backslash.
_CONFIRMATION_URL = re.compile(r"https://([A-Za-z0-9.-]{1,253})(:443)?([/?][!-\[\]-~]*)?")
_ANY = "*"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The reply to a handshake, and what to do before it is sent."""

    #: The name of the handshake.
    handshake: str
    status: int
    body: bytes
    headers: dict[str, str]
    #: The secret that the provider sent, to show to the operator.
    shown: str | None = None
    #: The URL that must answer 200 before the reply is sent.
    confirm: str | None = None


class Handshake:
    """One kind of handshake, with the secrets that it needs."""

    def __init__(
        self,
        config: HandshakeConfig,
        tokens: Sequence[bytes] = (),
        proof: Proof | None = None,
        not_ready: str | None = None,
    ) -> None:
        self.name = config.name
        self.method = config.method
        self.is_verified = config.is_verified
        #: Why the handshake can't be answered (a secret is missing); None if it can.
        self.not_ready = not_ready
        self._config = config
        self._when = tuple(config.when.items())
        self._form = re.compile(config.form)
        self._hosts = re.compile(config.confirm_hosts or "")
        self._tokens = tuple(tokens)
        self._proof = proof

    def matches(self, scope: Scope) -> bool:
        """Return whether a request is this handshake."""
        return scope.request.method == self.method and all(
            _matches(_text(template, scope), wanted) for template, wanted in self._when
        )

    def reply(self, scope: Scope) -> Reply:
        """Return the reply. Raises `RequestRejectedError` for an invalid request or a missing secret."""
        config = self._config
        if self.not_ready is not None:
            raise UnavailableError("the handshake is not ready; send again later", reason="not_ready")
        if config.token is not None:
            self._check_token(config.token, scope)
        challenge = None if config.challenge is None else self._challenge(config.challenge, scope)
        facts = {"challenge": challenge}
        if self._proof is not None and challenge is not None:
            facts["proof"] = self._proof(scope.request, challenge)
        body, headers = _render_answer(config.answer, Scope(scope.request, facts=facts))
        return Reply(
            handshake=self.name,
            status=config.answer.status,
            body=body,
            headers=headers,
            shown=None if config.show is None else _secret_to_show(config.show, scope),
            confirm=None if config.confirm is None else self._confirm(config.confirm, scope),
        )

    def could_be_challenge(self, signed: bytes) -> bool:
        """Return whether a sender could get these bytes signed by sending them as a challenge."""
        if len(signed) > MAX_CHALLENGE:
            return False
        try:
            return self._form.fullmatch(signed.decode()) is not None
        except UnicodeDecodeError:
            return False

    def _check_token(self, template: Template, scope: Scope) -> None:
        given = as_sent(_text(template, scope) or "")
        if not any([ct_equal(given, token) for token in self._tokens]):  # noqa: C419 - constant time
            raise ForbiddenError("the token is wrong")

    def _challenge(self, template: Template, scope: Scope) -> bytes:
        text = _text(template, scope)
        if text is None or len(text) > MAX_CHALLENGE or not self._form.fullmatch(text):
            raise MalformedRequestError("the challenge does not have the expected form")
        return as_sent(text)

    def _confirm(self, template: Template, scope: Scope) -> str:
        url = _text(template, scope) or ""
        parts = _CONFIRMATION_URL.fullmatch(url)
        if len(url) > MAX_CHALLENGE or not parts or not self._hosts.fullmatch(parts[1].lower()):
            raise MalformedRequestError("the URL to confirm does not belong to the provider")
        return url


class Handshakes:
    """All handshakes of a source. The proofs of `signing` use the key that also signs events."""

    def __init__(
        self,
        handshakes: Sequence[Handshake],
        signing: Sequence[Handshake] = (),
        *,
        event_methods: Sequence[str] = ("POST",),
    ) -> None:
        """`event_methods` are the methods with which the provider sends events."""
        self._event_methods = frozenset(event_methods)
        self._unverified = tuple(one for one in handshakes if not one.is_verified)
        self._verified = tuple(one for one in handshakes if one.is_verified)
        self._verified_methods = frozenset(one.method for one in self._verified)
        self._signing = tuple(signing)
        #: The methods that only handshakes use.
        self.methods = tuple(
            dict.fromkeys(one.method for one in handshakes if one.method not in self._event_methods)
        )
        #: Why a handshake can't be answered (a secret is missing); None if all can.
        self.not_ready = next((one.not_ready for one in handshakes if one.not_ready), None)

    def before_verification(self, request: Request) -> Reply | None:
        """Return the reply to a handshake that needs no verification; None if the request is not one.

        A request that only resembles a handshake goes on to the verifiers. Raises `RequestRejectedError` for
        a wrong token, a missing secret, and a request that can be neither an event nor a handshake.
        """
        scope = Scope(request)
        for handshake in self._unverified:
            if handshake.matches(scope):
                try:
                    return handshake.reply(scope)
                except MalformedRequestError:
                    continue
        if request.method not in self._event_methods and request.method not in self._verified_methods:
            raise MalformedRequestError("not a handshake of this provider")
        return None

    def after_verification(self, verified: VerifiedRequest) -> Reply | None:
        """Return the reply to a verified handshake; None if the request is not a handshake.

        Raises `VerificationError` if a sender could have obtained the signature from the gateway, as the
        proof of a challenge. Raises `RequestRejectedError` for an invalid handshake, which never becomes an
        event.
        """
        self._check_signed_bytes(verified.facts)
        scope = Scope(verified.request)
        for handshake in self._verified:
            if handshake.matches(scope):
                return handshake.reply(scope)
        if verified.request.method not in self._event_methods:
            raise MalformedRequestError("not a handshake of this provider")
        return None

    def _check_signed_bytes(self, facts: Facts) -> None:
        signed = facts.get("signed")
        if signed is not None and any(handshake.could_be_challenge(signed) for handshake in self._signing):
            raise VerificationError("wrong_signature")


def _matches(text: str | None, wanted: str) -> bool:
    return bool(text) if wanted == _ANY else text == wanted


def _secret_to_show(template: Template, scope: Scope) -> str:
    secret = _text(template, scope)
    if not secret or len(secret) > _MAX_SHOWN or not secret.isprintable():
        raise MalformedRequestError("the secret to show is missing or malformed")
    return secret


def _render_answer(answer: HandshakeAnswer, scope: Scope) -> tuple[bytes, dict[str, str]]:
    """Render the body and the headers. Refuses values that a header can't contain, above all line breaks."""
    headers: dict[str, str] = {}
    body = b""
    if answer.text is not None:
        body = as_sent(_required_text(answer.text, scope))
        headers = {"Content-Type": "text/plain; charset=utf-8"}
    elif answer.json_ is not None:
        values = answer.json_.items()
        body = msgspec.json.encode(
            {key: value if isinstance(value, int) else _required_text(value, scope) for key, value in values}
        )
        headers = {"Content-Type": "application/json"}
    if body:
        # The sender chose the challenge, so a browser must not interpret it as a page.
        headers["X-Content-Type-Options"] = "nosniff"
    for name, template in answer.headers.items():
        value = _required_text(template, scope)
        if not value.isascii() or not value.isprintable():
            raise MalformedRequestError("the challenge does not fit into a header")
        headers[name] = value
    return body, headers


def _required_text(template: Template, scope: Scope) -> str:
    """Render a template. Only a proof that contains `{url}` can fail here, if `public_url` is not set."""
    text = _text(template, scope)
    if text is None:
        raise UnavailableError("the handshake is not ready; send again later", reason="not_ready")
    return text


def _text(template: Template, scope: Scope) -> str | None:
    try:
        return template.text(scope)
    except MalformedDocumentError:
        return None


#: Computes the proof from the request and its challenge; None if a value for the template is missing.
Proof = Callable[["Request", bytes], bytes | None]


def hmac_proof(config: HmacProof, secret: bytes) -> Proof:
    """Create a proof with a secret of the source. Raises `ValueError` if `key` does not fit the secret."""
    key, prefix, encode = key_bytes(secret, config.key), as_sent(config.prefix), ENCODERS[config.encoding]
    if not key:
        raise ValueError("the secret decodes to an empty key")
    return lambda _, challenge: prefix + encode(hmac.digest(key, challenge, config.digest))


def hash_proof(config: HashProof, token: bytes) -> Proof:
    """Create a proof that hashes a template over the challenge and the `{token}`."""
    encode = ENCODERS[config.encoding]

    def prove(request: Request, challenge: bytes) -> bytes | None:
        # The registered URL: the challenge came in the query, which is not part of it.
        registered = msgspec.structs.replace(request, query="")
        scope = Scope(registered, facts={"challenge": challenge, "token": token})
        try:
            hashed = config.of.render(scope)
        except MalformedDocumentError:
            return None
        return None if hashed is None else encode(hashlib.new(config.digest, hashed).digest())

    return prove
