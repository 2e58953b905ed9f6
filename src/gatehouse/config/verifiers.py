"""The models of `verify`: one per type of verifier, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gatehouse.config.base import Model, exactly_one
from gatehouse.config.scalars import Between, Duration, SecretReference, wrong
from gatehouse.config.texts import HeaderName, OneOrMany, TemplateText, Text, UserName
from gatehouse.template import Template

#: How long the shortest secret may be at the least; no provider issues longer ones than the most.
SecretLength = Annotated[int, Between(1, 256)]


class SignatureConfig(Model):
    """Where a request carries its signatures, and how they are written."""

    header: OneOrMany[HeaderName] = ()
    """The header that carries the signature, or several names of which the first present one counts."""
    body: Text | None = None
    """A path into the JSON body that carries the signature."""
    form: Text | None = None
    """A form field that carries the signature."""
    format: Literal["plain", "pairs", "list"] = "plain"
    """`plain` is the signature alone, `pairs` is `t=1,s=ab`, `list` is `v1,ab v1,cd`."""
    key: OneOrMany[Text] = ()
    """For pairs and list: which entries are signatures. Several may match; any may pass."""
    prefix: str = ""
    """Text in front of each signature, as in `sha256=`."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """How the signature's bytes are written."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.body, self.form):
            raise wrong("needs exactly one place", "header: NAME, body: path or form: name")
        if self.format != "plain" and not self.key:
            raise wrong(f"format {self.format} needs to know its entries", "key: v1")
        if self.format == "plain" and self.key:
            raise wrong("key is for pairs and list", "format: pairs, or leave key out")
        return self


class TimestampConfig(Model):
    """The signed timestamp: where it is, how it is written, how old it may be."""

    pair: Text | None = None
    """The entry of a `pairs` signature that is the timestamp."""
    header: HeaderName | None = None
    """The header that carries the timestamp."""
    unit: Literal["s", "ms", "iso8601"] = "s"
    """How the timestamp is written: unix seconds, unix milliseconds, or ISO 8601."""
    tolerance: Duration = 300.0
    """How far it may be from now, in the past and in the future."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.pair, self.header):
            raise wrong("needs exactly one place", "pair: t or header: X-Webhook-Timestamp")
        return self


class VerifierConfig(Model):
    """What every verifier with a secret has."""

    secrets: OneOrMany[SecretReference] = ()
    """Secrets of this verifier alone; without any it uses those of the source. All of them are live."""
    min_secret: SecretLength | None = None
    """The shortest secret in bytes that this verifier accepts. Default: the source's."""


class HmacConfig(VerifierConfig):
    """`type: hmac`: a keyed hash over the request."""

    type: Literal["hmac"]
    """A keyed hash over the request."""
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    key: Literal["utf8", "hex", "base64", "whsec"] = "utf8"
    """How the secret becomes key bytes; `whsec` is base64 behind `whsec_`."""
    signature: SignatureConfig
    """Where the signature is and how it is written."""
    timestamp: TimestampConfig | None = None
    """The signed timestamp; absent when the scheme signs none."""
    signed: TemplateText = Template("{body}")
    """What is signed."""

    @field_validator("timestamp")
    @classmethod
    def _is_in_pairs(
        cls, timestamp: TimestampConfig | None, others: ValidationInfo
    ) -> TimestampConfig | None:
        signature = others.data.get("signature")
        if timestamp and timestamp.pair and signature and signature.format != "pairs":
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
        return signed


class TokenConfig(VerifierConfig):
    """`type: token`: a shared token, sent as it is."""

    type: Literal["token"]
    """A shared token, sent as it is."""
    header: HeaderName | None = None
    """The header that carries it."""
    query: Text | None = None
    """The query parameter that carries it."""
    prefix: str = ""
    """Text in front of the token, as in `Bearer `."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.query):
            raise wrong("needs exactly one place", "header: NAME or query: name")
        return self


class BasicConfig(VerifierConfig):
    """`type: basic`: HTTP Basic credentials."""

    type: Literal["basic"]
    """HTTP Basic credentials."""
    username: UserName | None = None
    """The user name; the secret is then the password. Without it the secret is `username:password`."""


class NoneConfig(Model):
    """`type: none`: no verification, so anyone who can reach the path can send."""

    type: Literal["none"]
    """No verification: anyone who can reach the path can send."""
    insecure: Literal[True]
    """Says that you mean it."""


VerifyEntry = Annotated[HmacConfig | TokenConfig | BasicConfig | NoneConfig, Field(discriminator="type")]
