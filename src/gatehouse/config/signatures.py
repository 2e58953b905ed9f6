"""Defines the models that the verifiers of signatures share: place, timestamp, and signed text."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gatehouse.config.base import (
    HeaderName,
    Model,
    NumberedHeader,
    OneOrMany,
    TemplateText,
    Text,
    exactly_one,
    invalid_value,
)
from gatehouse.config.quantities import Between, parse_duration
from gatehouse.config.secret_references import SecretReference
from gatehouse.language.template import Template

#: The bounds of `min_secret`. No provider issues secrets longer than the upper bound.
SecretLength = Annotated[int, Between(1, 256)]


def parse_tolerance(value: Any) -> Any:
    """Convert a duration to seconds, and `none` to infinity."""
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
    """The keys of every verifier with a secret."""

    secrets: OneOrMany[SecretReference] = ()
    """The secrets of this verifier. All of them are valid. Default: the secrets of the source."""
    min_secret: SecretLength | None = None
    """The minimum length of a secret in bytes. Default: the value of the source."""

    @property
    def needs_secret(self) -> bool:
        """Return whether the verifier has secrets: none if the provider publishes or sends its keys."""
        return True


class SignatureConfig(Model):
    """Where a request carries its signatures, and in which format."""

    header: OneOrMany[NumberedHeader] = ()
    """The header that carries the signature. With several names, the first header that is present is used.
    `X-Signature-{n}` stands for X-Signature-1, X-Signature-2 and so on."""
    body: Text | None = None
    """The path in the JSON body that carries the signature."""
    form: Text | None = None
    """The form field that carries the signature."""
    format: Literal["plain", "pairs", "list", "positional"] = "plain"
    """`plain`: only the signature. `pairs`: `t=1,s=ab`. `list`: `v1,ab v1,cd`. `positional`: `1,ab,cd`, with
    the entry names 0, 1, 2 and so on."""
    key: OneOrMany[Text] = ()
    """For `pairs`, `list` and `positional`: the names of the entries that are signatures. `*` stands for all.
    One valid signature is enough."""
    between: Literal[",", "&", ";", " ", "|", ", "] = ","
    """For `pairs` and `positional`: the separator between two entries. For `list`, the separator is a space
    unless you set `, `."""
    sets: Literal[" "] | None = None
    """For `pairs`: the separator between two sets of pairs, as in `t=1,s=ab t=1,s=cd`. One valid signature is
    enough. Other entries are used only if they are the same in all sets."""
    assign: Literal["=", "|", ":"] = "="
    """For `pairs`: the separator between the name and the value of an entry."""
    prefix: str = ""
    """Text before each signature, such as `sha256=`."""
    encoding: Literal["hex", "hex-upper", "base64", "base64url"] = "hex"
    """The encoding of the signature. `hex-upper` has capital letters. The padding of `base64url` is
    optional."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.body, self.form):
            raise invalid_value(
                "must name exactly one place", "use one of: header: NAME, body: PATH, form: NAME"
            )
        if self.format != "plain" and not self.key:
            raise invalid_value(
                f"`key` is required with format: {self.format}",
                "name the entries that are signatures, as in key: v1",
            )
        if self.format == "plain" and self.key:
            raise invalid_value(
                "`key` is for the formats pairs, list and positional", "add format: pairs, or remove key"
            )
        if self.sets and (self.format != "pairs" or self.between == self.sets):
            raise invalid_value(
                "`sets` needs pairs with another separator", 'use format: pairs and between: ","'
            )
        if self.between == self.assign:
            raise invalid_value(
                "`between` and `assign` are the same",
                'set two different ones, as in between: "&", assign: "|"',
            )
        return self


class TimestampConfig(Model):
    """The signed timestamp: its place, its format, and its maximum age."""

    pair: Text | None = None
    """The name of the entry of a `pairs` or `positional` signature that is the timestamp."""
    header: HeaderName | None = None
    """The header that carries the timestamp."""
    body: Text | None = None
    """The path in the JSON body that carries the timestamp."""
    form: Text | None = None
    """The form field that carries the timestamp."""
    query: Text | None = None
    """The query parameter that carries the timestamp."""
    unit: Literal["s", "ms", "iso8601"] = "s"
    """The format of the timestamp: Unix seconds, Unix milliseconds, or ISO 8601."""
    tolerance: Tolerance = 300.0
    """The maximum difference from the current time, in the past and in the future. `none` means no limit."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.pair, self.header, self.body, self.form, self.query):
            raise invalid_value(
                "must name exactly one place", "use one of: pair: t, header: X-Webhook-Timestamp"
            )
        return self


class SigningConfig(VerifierConfig):
    """The keys of every verifier of a signature."""

    signature: SignatureConfig
    """Where the signature is, and in which format."""
    timestamp: TimestampConfig | None = None
    """The signed timestamp, if the scheme signs one."""
    id: TemplateText | None = None
    """The signed id of the request, if the scheme signs one. `{id}` then stands for it."""
    signed: TemplateText = Template("{body}")
    """The text that the provider signs."""
    each: Text | None = None
    """The path to a list in the body whose elements each carry their own signature. The gateway then reads
    `signature`, `timestamp`, `id` and `signed` in each element. Every element must pass."""

    @field_validator("timestamp")
    @classmethod
    def _is_in_pairs(
        cls, timestamp: TimestampConfig | None, others: ValidationInfo
    ) -> TimestampConfig | None:
        signature = others.data.get("signature")
        if timestamp and timestamp.pair and signature and signature.format not in ("pairs", "positional"):
            raise invalid_value(
                "`pair` needs a signature in pairs", "add format: pairs to signature, or read a header"
            )
        return timestamp

    @field_validator("signed")
    @classmethod
    def _can_be_signed(cls, signed: Template, others: ValidationInfo) -> Template:
        names = {placeholder.name for placeholder in signed.placeholders}
        if "signed" in names:
            raise invalid_value(
                "`signed` must not contain {signed}", 'use other placeholders, as in "{timestamp}.{body}"'
            )
        if "timestamp" in names and others.data.get("timestamp", "unreadable") is None:
            raise invalid_value(
                "{timestamp} is signed, but `timestamp` is not set", "add timestamp: {header: NAME}"
            )
        if "id" in names and others.data.get("id", "unreadable") is None:
            raise invalid_value("{id} is signed, but `id` is not set", 'add id: "{header:webhook-id}"')
        return signed
