"""Defines the models of `handshakes`: requests with which a provider checks a URL before it sends events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gatehouse.config.base import (
    HeaderName,
    Model,
    RegularExpression,
    TemplateText,
    Text,
    invalid_value,
    parse_template,
)
from gatehouse.config.quantities import Between
from gatehouse.language.template import Template

#: Short examples of what providers sign. If a challenge may look like one of them, a sender could make the
#: gateway sign a forged event.
TYPICAL_SIGNED = (
    *('{"id":1}', '{"id": 1}', "{}", "[]", '[{"id":1}]', "id=1&type=a", "<a/>"),
    *("v0:1700000000:{}", "1700000000.{}", "1700000000:{}", "1700000000{}", "msg_1.1700000000.{}"),
    *("2026-01-02T03:04:05Z.{}", "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6MX0"),
    *("https://gateway.example/webhooks/a", "https://gateway.example/webhooks/a{}"),
)
#: Placeholders of an answer. The form of every other value of the request is unchecked.
_ANSWERABLE = frozenset({"challenge", "proof", "value"})


def parse_json_value(value: Any) -> Any:
    """Check a value of a JSON answer: a whole number, or a template for text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_template(value)


JsonValue = Annotated[
    Any,
    BeforeValidator(parse_json_value),
    WithJsonSchema({"title": "template or whole number", "type": ["string", "integer"]}),
]


class HmacProof(Model):
    """`type: hmac`: a keyed hash of the challenge, with the source's first secret."""

    type: Literal["hmac"]
    """A keyed hash (HMAC) of the challenge with the source's first secret. `form` must exclude everything
    that the same secret signs, such as JSON."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    key: Literal["utf8", "hex", "base64", "whsec", "sha1"] = "utf8"
    """How to convert the secret to key bytes."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """The encoding of the hash."""
    prefix: str = ""
    """Text before the hash, such as `sha256=`."""


class HashProof(Model):
    """`type: hash`: a hash of the challenge and a value that only the provider and the gateway know."""

    type: Literal["hash"]
    """A hash of the challenge and a value that only the provider and the gateway know."""
    of: TemplateText
    """What to hash, including `{challenge}`. `{token}` is the first of `handshake_secrets`. `{url}` has no
    query here."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """The encoding of the hash."""


class HandshakeAnswer(Model):
    """The answer. Without `text` and `json`, it has no body."""

    status: Annotated[int, Between(200, 299)] = 200
    """The status of the answer."""
    text: TemplateText | None = None
    """A text/plain body. It may contain `{challenge}` and `{proof}`."""
    json_: Annotated[Mapping[Text, JsonValue] | None, Field(alias="json")] = None
    """A JSON object as the body. Its values are text, which may contain `{challenge}` and `{proof}`, or whole
    numbers."""
    headers: Mapping[HeaderName, TemplateText] = {}
    """Headers of the answer. They may contain `{challenge}` and `{proof}`."""

    def templates(self) -> Iterator[Template]:
        """Return all templates of the answer."""
        values = (self.text, *(self.json_ or {}).values(), *self.headers.values())
        return (value for value in values if isinstance(value, Template))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.text is not None and self.json_ is not None:
            raise invalid_value("`text` and `json` exclude each other", "remove one of them")
        if self.status == 204 and not (self.text is None and self.json_ is None):  # noqa: PLR2004 - No Content
            raise invalid_value(
                "an answer with status 204 has no body", "use status: 200, or remove text and json"
            )
        return self


class HandshakeConfig(Model):
    """A kind of request that the gateway answers and neither stores nor forwards."""

    name: Text
    """The provider's name for it. The log shows it."""
    method: Literal["POST", "GET", "HEAD", "OPTIONS"] = "POST"
    """The method of the request. Methods other than POST are for handshakes only."""
    when: Mapping[TemplateText, str] = {}
    """Templates, and the text that each must resolve to. `*` stands for any text that is not empty. All must
    match. POST needs at least one, to distinguish handshakes from events."""
    verified: bool | None = None
    """Whether the request must pass the verifiers first. Default: `true` for POST, otherwise `false`."""
    token: TemplateText | None = None
    """A template that must resolve to one of the source's `handshake_secrets`. If it does not, the answer is
    403."""
    challenge: TemplateText | None = None
    """The value that the provider expects in the answer, or a proof of it."""
    form: RegularExpression = "[ -~]{1,1024}"
    """A pattern that the whole challenge must match, so that the answer cannot be mistaken for anything else.
    A request with another challenge is not a handshake. If it is not verified yet, the verifiers check it. If
    it is verified, it gets 400."""
    proof: Annotated[HmacProof | HashProof, Field(discriminator="type")] | None = None
    """How to compute `{proof}` for the answer."""
    show: TemplateText | None = None
    """A secret that the provider sends. The gateway shows it to the operator, keeps it only in memory and
    never logs it. It is accepted while the source has no secret yet."""
    confirm: TemplateText | None = None
    """An https URL that the gateway must fetch to confirm. If that fails, the answer is 503."""
    confirm_hosts: RegularExpression | None = None
    """A pattern that the whole host of that URL must match, in lower case."""
    answer: HandshakeAnswer = HandshakeAnswer()
    """The answer."""

    @property
    def is_verified(self) -> bool:
        """Whether the request must pass the verifiers first."""
        return self.method == "POST" if self.verified is None else self.verified

    @property
    def needs_secret(self) -> bool:
        """Whether the handshake needs one of the source's `handshake_secrets`."""
        hashed = self.proof.of.placeholders if isinstance(self.proof, HashProof) else ()
        return self.token is not None or any(part.name == "token" for part in hashed)

    @field_validator("proof")
    @classmethod
    def _is_no_oracle(
        cls, proof: HmacProof | HashProof | None, others: ValidationInfo
    ) -> HmacProof | HashProof | None:
        form = others.data.get("form")
        if isinstance(proof, HmacProof) and form is not None:
            signed = next((text for text in TYPICAL_SIGNED if re.fullmatch(form, text)), None)
            if signed is not None:
                message = f"`form` accepts {signed}: a sender could get a forged request signed"
                raise invalid_value(message, 'use a narrower form, as in form: "[A-Za-z0-9_-]{1,128}"')
        return proof

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "POST" and not self.when:
            raise invalid_value(
                "a handshake with POST needs `when`",
                'name what only the handshake has, as in when: {"{body:type}": url_verification}',
            )
        if self.proof is not None and self.challenge is None:
            raise invalid_value("a proof needs a challenge", 'add challenge: "{query:NAME}"')
        if (self.confirm is None) != (self.confirm_hosts is None):
            raise invalid_value(
                "`confirm` and `confirm_hosts` need each other",
                "set both, as in confirm_hosts: sns[.][a-z0-9-]+[.]amazonaws[.]com",
            )
        if self.confirm is not None and not self.is_verified:
            raise invalid_value("`confirm` needs a verified request", "add verified: true")
        self._check_answer()
        return self

    def _check_answer(self) -> None:
        named = {part.name for template in self.answer.templates() for part in template.placeholders}
        missing = {"challenge"} if self.challenge is None else set()
        missing |= {"proof"} if self.proof is None else set()
        for name in sorted(named & missing):
            raise invalid_value(f"the answer contains {{{name}}}, but `{name}` is not set", f"add {name}: …")
        for name in sorted(named - _ANSWERABLE):
            hint = "use {challenge}, {proof} or {value:NAME}"
            raise invalid_value(f"the answer must not contain {{{name}}}", hint)
