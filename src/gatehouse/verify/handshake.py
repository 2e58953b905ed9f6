"""Handshakes: which request is one, and how it is answered. This module stores and fetches nothing."""

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

#: Whatever a form allows, nothing longer is echoed or proved: longer signed bytes were never a challenge.
MAX_CHALLENGE = 4096
_MAX_SHOWN = 1024
#: Written so that no two readers of a URL could see two hosts in it: no user, no port, no backslash.
_CONFIRMATION_URL = re.compile(r"https://([A-Za-z0-9.-]{1,253})(:443)?([/?][!-\[\]-~]*)?")
_ANY = "*"
_POST = "POST"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a handshake is answered, and what has to be done with it first."""

    #: The handshake's name.
    handshake: str
    status: int
    body: bytes
    headers: dict[str, str]
    #: The secret that the provider handed over, for the operator's eyes.
    shown: str | None = None
    #: The URL that has to answer 200 before the handshake is answered.
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
        #: Which secret it lacks; None when it can be answered.
        self.not_ready = not_ready
        self._config = config
        self._when = tuple(config.when.items())
        self._form = re.compile(config.form)
        self._hosts = re.compile(config.confirm_hosts or "")
        self._tokens = tuple(tokens)
        self._proof = proof

    def matches(self, scope: Scope) -> bool:
        """Tell whether a request is meant as this handshake."""
        return scope.request.method == self.method and all(
            _matches(_text(template, scope), wanted) for template, wanted in self._when
        )

    def reply(self, scope: Scope) -> Reply:
        """Answer it. Raises `RequestRejectedError` for what may not be answered, or can't be yet."""
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
        """Tell whether these bytes could be had signed by sending them as a challenge."""
        if len(signed) > MAX_CHALLENGE:
            return False
        try:
            return self._form.fullmatch(signed.decode()) is not None
        except UnicodeDecodeError:
            return False

    def _check_token(self, template: Template, scope: Scope) -> None:
        given = as_sent(_text(template, scope) or "")
        if not any([ct_equal(given, token) for token in self._tokens]):  # noqa: C419 - compares with all
            raise ForbiddenError("the token is wrong")

    def _challenge(self, template: Template, scope: Scope) -> bytes:
        text = _text(template, scope)
        if text is None or len(text) > MAX_CHALLENGE or not self._form.fullmatch(text):
            raise MalformedRequestError("the challenge has not the form of one")
        return as_sent(text)

    def _confirm(self, template: Template, scope: Scope) -> str:
        url = _text(template, scope) or ""
        parts = _CONFIRMATION_URL.fullmatch(url)
        if len(url) > MAX_CHALLENGE or not parts or not self._hosts.fullmatch(parts[1].lower()):
            raise MalformedRequestError("the address to confirm is not the provider's")
        return url


class Handshakes:
    """All handshakes of a source."""

    def __init__(self, handshakes: Sequence[Handshake], proving: Sequence[Handshake] = ()) -> None:
        self._unverified = tuple(one for one in handshakes if not one.is_verified)
        self._verified = tuple(one for one in handshakes if one.is_verified)
        self._verified_methods = frozenset(one.method for one in self._verified)
        self._proving = tuple(proving)
        #: The methods that handshakes use, besides the POST of events.
        self.methods = tuple(dict.fromkeys(one.method for one in handshakes if one.method != _POST))
        #: Whether there is any that comes before verification, and so needs no secret of the source.
        self.any_before_verification = bool(self._unverified)
        #: What can't be answered for lack of a secret; None when all can.
        self.not_ready = next((one.not_ready for one in handshakes if one.not_ready), None)

    def before_verification(self, request: Request) -> Reply | None:
        """Answer a handshake that comes before verification; None when the request is none.

        What only looks like one goes on to the verifiers. Raises `RequestRejectedError`: among others for
        methods that are never an event's, when no handshake is left that the request could be.
        """
        scope = Scope(request)
        for handshake in self._unverified:
            if handshake.matches(scope):
                try:
                    return handshake.reply(scope)
                except MalformedRequestError:
                    continue
        if request.method != _POST and request.method not in self._verified_methods:
            raise MalformedRequestError("not a handshake of this provider")
        return None

    def after_verification(self, verified: VerifiedRequest) -> Reply | None:
        """Answer a handshake of a verified request; None when the request is an ordinary one.

        Raises `VerificationError` when the signature could be one that the gateway itself gave away, and
        `RequestRejectedError` for a handshake that may not be answered: it never becomes an event.
        """
        self._check_signed_bytes(verified.facts)
        scope = Scope(verified.request)
        for handshake in self._verified:
            if handshake.matches(scope):
                return handshake.reply(scope)
        if verified.request.method != _POST:
            raise MalformedRequestError("not a handshake of this provider")
        return None

    def _check_signed_bytes(self, facts: Facts) -> None:
        signed = facts.get("signed")
        if signed is not None and any(handshake.could_be_challenge(signed) for handshake in self._proving):
            raise VerificationError("wrong_signature")


def _matches(text: str | None, wanted: str) -> bool:
    return bool(text) if wanted == _ANY else text == wanted


def _secret_to_show(template: Template, scope: Scope) -> str:
    secret = _text(template, scope)
    if not secret or len(secret) > _MAX_SHOWN or not secret.isprintable():
        raise MalformedRequestError("no secret to be shown")
    return secret


def _render_answer(answer: HandshakeAnswer, scope: Scope) -> tuple[bytes, dict[str, str]]:
    """Write the answer's body and headers. What a header can't carry is refused, line breaks above all."""
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
        # The challenge is someone else's text: no browser may take it for a page.
        headers["X-Content-Type-Options"] = "nosniff"
    for name, template in answer.headers.items():
        value = _required_text(template, scope)
        if not value.isascii() or not value.isprintable():
            raise MalformedRequestError("the challenge does not fit into a header")
        headers[name] = value
    return body, headers


def _required_text(template: Template, scope: Scope) -> str:
    """Render what the config made sure of, but for a proof of a URL that nobody told us."""
    text = _text(template, scope)
    if text is None:
        raise UnavailableError("the handshake is not ready; send again later", reason="not_ready")
    return text


def _text(template: Template, scope: Scope) -> str | None:
    try:
        return template.text(scope)
    except MalformedDocumentError:
        return None


#: From the request and its challenge to the proof as written; None when the request has not all of it.
Proof = Callable[["Request", bytes], bytes | None]


def hmac_proof(config: HmacProof, secret: bytes) -> Proof:
    """Prove with a secret of the source. Raises `ValueError` when it is not of the form that `key` says."""
    key, prefix, write = key_bytes(secret, config.key), as_sent(config.prefix), ENCODERS[config.encoding]
    if not key:
        raise ValueError("a secret without key bytes")
    return lambda _, challenge: prefix + write(hmac.digest(key, challenge, config.digest))


def hash_proof(config: HashProof, token: bytes) -> Proof:
    """Prove with a token that is hashed together with the challenge; `{token}` stands for it."""
    write = ENCODERS[config.encoding]

    def prove(request: Request, challenge: bytes) -> bytes | None:
        # The address as it was registered: the challenge itself came in the query.
        registered = msgspec.structs.replace(request, query="")
        scope = Scope(registered, facts={"challenge": challenge, "token": token})
        try:
            hashed = config.of.render(scope)
        except MalformedDocumentError:
            return None
        return None if hashed is None else write(hashlib.new(config.digest, hashed).digest())

    return prove
