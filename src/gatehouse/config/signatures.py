"""What the verifiers that check a signature share: where it stands, its timestamp, and what is signed."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gatehouse.config.base import Model, exactly_one
from gatehouse.config.scalars import Between, SecretReference, parse_duration, wrong
from gatehouse.config.texts import HeaderName, NumberedHeader, OneOrMany, TemplateText, Text
from gatehouse.language.template import Template

#: How long the shortest secret may be at the least; no provider issues longer ones than the most.
SecretLength = Annotated[int, Between(1, 256)]


def parse_tolerance(value: Any) -> Any:
    """Turn a duration into seconds, and `none` into no limit."""
    return math.inf if value == "none" else parse_duration(value)


Tolerance = Annotated[
    float,
    BeforeValidator(parse_tolerance),
    WithJsonSchema(
        {
            "title": "duration or `none`",
            "anyOf": [{"const": "none"}, {"type": "string", "pattern": "^[0-9.]+(ms|s|m|h|d)"}],
        }
    ),
]


class VerifierConfig(Model):
    """What every verifier with a secret has."""

    secrets: OneOrMany[SecretReference] = ()
    """Secrets of this verifier alone; without any it uses those of the source. All of them are live."""
    min_secret: SecretLength | None = None
    """The shortest secret in bytes that this verifier accepts. Default: the source's."""


class SignatureConfig(Model):
    """Where a request carries its signatures, and how they are written."""

    header: OneOrMany[NumberedHeader] = ()
    """The header that carries the signature, or several names of which the first present one counts.
    `X-Signature-{n}` is X-Signature-1, X-Signature-2 and so on, as many as there are."""
    body: Text | None = None
    """A path into the JSON body that carries the signature."""
    form: Text | None = None
    """A form field that carries the signature."""
    format: Literal["plain", "pairs", "list", "positional"] = "plain"
    """`plain` is the signature alone, `pairs` is `t=1,s=ab`, `list` is `v1,ab v1,cd`; `positional` is
    `1,ab,cd`, whose entries are named 0, 1, 2 and so on."""
    key: OneOrMany[Text] = ()
    """For pairs, list and positional: which entries are signatures, `*` for any. Several may match; any may
    pass."""
    between: Literal[",", "&", ";", " ", "|", ", "] = ","
    """For pairs and positional: what stands between two entries. For list it is a space, unless `, ` is
    given."""
    sets: Literal[" "] | None = None
    """For pairs: what stands between two whole sets, as in `t=1,s=ab t=1,s=cd`. Any signature may pass; the
    other entries count only when all sets agree on them."""
    assign: Literal["=", "|", ":"] = "="
    """For pairs: what stands between an entry's name and its value."""
    prefix: str = ""
    """Text in front of each signature, as in `sha256=`."""
    encoding: Literal["hex", "hex-upper", "base64", "base64url"] = "hex"
    """How the signature's bytes are written: `hex-upper` has capital letters, base64url may lack padding."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.body, self.form):
            raise wrong("needs exactly one place", "header: NAME, body: path or form: name")
        if self.format != "plain" and not self.key:
            raise wrong(f"format {self.format} needs to know its entries", "key: v1")
        if self.format == "plain" and self.key:
            raise wrong("key is for pairs, list and positional", "format: pairs, or leave key out")
        if self.sets and (self.format != "pairs" or self.between == self.sets):
            raise wrong("sets are of pairs that something else is between", 'format: pairs, between: ","')
        if self.between == self.assign:
            raise wrong("between and assign are the same", 'between: "&", assign: "|"')
        return self


class TimestampConfig(Model):
    """The signed timestamp: where it is, how it is written, how old it may be."""

    pair: Text | None = None
    """The entry of a `pairs` or `positional` signature that is the timestamp."""
    header: HeaderName | None = None
    """The header that carries the timestamp."""
    body: Text | None = None
    """A path into the JSON body that carries the timestamp."""
    form: Text | None = None
    """A form field that carries the timestamp."""
    query: Text | None = None
    """A query parameter that carries the timestamp."""
    unit: Literal["s", "ms", "iso8601"] = "s"
    """How the timestamp is written: unix seconds, unix milliseconds, or ISO 8601."""
    tolerance: Tolerance = 300.0
    """How far it may be from now, in the past and in the future. `none`: however far."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.pair, self.header, self.body, self.form, self.query):
            raise wrong("needs exactly one place", "pair: t or header: X-Webhook-Timestamp")
        return self


class SigningConfig(VerifierConfig):
    """What every verifier of a signature has."""

    signature: SignatureConfig
    """Where the signature is and how it is written."""
    timestamp: TimestampConfig | None = None
    """The signed timestamp; absent when the scheme signs none."""
    id: TemplateText | None = None
    """The signed id of the request, which `{id}` then stands for; absent when the scheme signs none."""
    signed: TemplateText = Template("{body}")
    """What is signed."""
    each: Text | None = None
    """A path to a list in the body of which every element carries its own signature: signature, timestamp, id
    and signed are then read inside each, and each has to pass."""

    @field_validator("timestamp")
    @classmethod
    def _is_in_pairs(
        cls, timestamp: TimestampConfig | None, others: ValidationInfo
    ) -> TimestampConfig | None:
        signature = others.data.get("signature")
        if timestamp and timestamp.pair and signature and signature.format not in ("pairs", "positional"):
            raise wrong("a timestamp in a pair needs a signature of pairs", "signature: {format: pairs}")
        return timestamp

    @field_validator("signed")
    @classmethod
    def _can_be_signed(cls, signed: Template, others: ValidationInfo) -> Template:
        names = {placeholder.name for placeholder in signed.placeholders}
        if "signed" in names:
            raise wrong("{signed} can't be part of what is signed", 'signed: "{timestamp}.{body}"')
        if "timestamp" in names and others.data.get("timestamp", "unreadable") is None:
            raise wrong("{timestamp} is signed, but there is no timestamp", "timestamp: {header: NAME}")
        if "id" in names and others.data.get("id", "unreadable") is None:
            raise wrong("{id} is signed, but there is no id", 'id: "{header:webhook-id}"')
        return signed
