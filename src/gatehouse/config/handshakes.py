"""The models of `handshakes`: requests with which a provider checks an address before it sends events."""

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
    parse_template,
    wrong,
)
from gatehouse.config.quantities import Between
from gatehouse.language.template import Template

#: What providers sign, in short. A challenge that could be one of these would have us sign a forged event.
TYPICAL_SIGNED = (
    *('{"id":1}', '{"id": 1}', "{}", "[]", '[{"id":1}]', "id=1&type=a", "<a/>"),
    *("v0:1700000000:{}", "1700000000.{}", "1700000000:{}", "1700000000{}", "msg_1.1700000000.{}"),
    *("2026-01-02T03:04:05Z.{}", "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6MX0"),
    *("https://gateway.example/webhooks/a", "https://gateway.example/webhooks/a{}"),
)
#: What the answer may be made of: the request has nothing else whose form was checked.
_ANSWERABLE = frozenset({"challenge", "proof", "value"})


def parse_json_value(value: Any) -> Any:
    """Check a value of a JSON answer: a whole number, or a template that becomes text."""
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
    """A keyed hash of the challenge, with the source's first secret. The `form` has to be narrow: a challenge
    that could be what the same secret signs, such as JSON, is refused."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    key: Literal["utf8", "hex", "base64", "whsec", "sha1"] = "utf8"
    """How the secret becomes key bytes."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """How the hash is written."""
    prefix: str = ""
    """Text in front of the hash, as in `sha256=`."""


class HashProof(Model):
    """`type: hash`: a hash of the challenge with something that only both sides know."""

    type: Literal["hash"]
    """A hash of the challenge with something that only both sides know."""
    of: TemplateText
    """What is hashed, with `{challenge}`; `{token}` is the first of `handshake_secrets`, and `{url}` is here
    without the query."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """How the hash is written."""


class HandshakeAnswer(Model):
    """What is answered. Without `text` and `json` the answer has no body."""

    status: Annotated[int, Between(200, 299)] = 200
    """The answer's status."""
    text: TemplateText | None = None
    """A text/plain body, with `{challenge}` and `{proof}`."""
    json_: Annotated[Mapping[Text, JsonValue] | None, Field(alias="json")] = None
    """A JSON object, of texts with `{challenge}` and `{proof}`, or of whole numbers."""
    headers: Mapping[HeaderName, TemplateText] = {}
    """Headers of the answer, with `{challenge}` and `{proof}`."""

    def templates(self) -> Iterator[Template]:
        """Walk all its templates."""
        values = (self.text, *(self.json_ or {}).values(), *self.headers.values())
        return (value for value in values if isinstance(value, Template))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.text is not None and self.json_ is not None:
            raise wrong("text and json are two bodies", "one of them")
        if self.status == 204 and not (self.text is None and self.json_ is None):  # noqa: PLR2004 - No Content
            raise wrong("an answer with status 204 has no body", "status: 200, or neither text nor json")
        return self


class HandshakeConfig(Model):
    """One kind of request that is answered and is no event: it is neither stored nor forwarded."""

    name: Text
    """What the provider calls it; it stands in the log."""
    method: Literal["POST", "GET", "HEAD", "OPTIONS"] = "POST"
    """The request's method. Any but POST is served for handshakes alone."""
    when: Mapping[TemplateText, str] = {}
    """Templates and the exact text that each has to resolve to, `*` for any text but none. All have to hold.
    POST needs at least one, to tell handshakes from events."""
    verified: bool | None = None
    """Whether the verifiers have to pass first. Default: true for POST, else false."""
    token: TemplateText | None = None
    """Has to resolve to one of the source's `handshake_secrets`; the answer is 403 if not."""
    challenge: TemplateText | None = None
    """What the provider wants to see again, or proved."""
    form: RegularExpression = "[ -~]{1,1024}"
    """What the whole challenge has to match, so that what is answered can't be taken for anything else. A
    request with another challenge is no handshake: unverified it goes on to the verifiers, verified it gets
    400."""
    proof: Annotated[HmacProof | HashProof, Field(discriminator="type")] | None = None
    """What `{proof}` in the answer is."""
    show: TemplateText | None = None
    """A secret that the provider hands over: shown to the operator, kept in memory only, never logged. It
    works while the source has no secret yet."""
    confirm: TemplateText | None = None
    """An https URL that has to be fetched to confirm. The answer is 503 when that fails."""
    confirm_hosts: RegularExpression | None = None
    """What the whole host of that URL has to match, in lower case."""
    answer: HandshakeAnswer = HandshakeAnswer()
    """What is answered."""

    @property
    def is_verified(self) -> bool:
        """Whether the verifiers have to pass first."""
        return self.method == "POST" if self.verified is None else self.verified

    @property
    def needs_secret(self) -> bool:
        """Whether it works only with one of the source's `handshake_secrets`."""
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
                message = f"the challenge could be signed data such as {signed}: whoever asks gets it signed"
                raise wrong(message, 'a narrow form, as in form: "[A-Za-z0-9_-]{1,128}"')
        return proof

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "POST" and not self.when:
            raise wrong("every POST would be this handshake", 'when: {"{body:type}": url_verification}')
        if self.proof is not None and self.challenge is None:
            raise wrong("a proof needs a challenge", 'challenge: "{query:challenge}"')
        if (self.confirm is None) != (self.confirm_hosts is None):
            raise wrong(
                "confirm and confirm_hosts belong together",
                "confirm_hosts: sns[.][a-z0-9-]+[.]amazonaws[.]com",
            )
        if self.confirm is not None and not self.is_verified:
            raise wrong("anyone could have the gateway fetch a URL", "verified: true")
        self._check_answer()
        return self

    def _check_answer(self) -> None:
        named = {part.name for template in self.answer.templates() for part in template.placeholders}
        missing = {"challenge"} if self.challenge is None else set()
        missing |= {"proof"} if self.proof is None else set()
        for name in sorted(named & missing):
            raise wrong(f"the answer has {{{name}}}, but there is no {name}", f"{name}: …")
        for name in sorted(named - _ANSWERABLE):
            hint = "{challenge}, {proof} or {value:…}; of the challenge the form is checked"
            raise wrong(f"the answer may not have {{{name}}} in it", hint)
