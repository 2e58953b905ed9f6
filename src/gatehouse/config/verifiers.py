"""Defines the models of `verify`: one per verifier type, and what they share."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gatehouse.config.addresses import HttpsUrl, Network
from gatehouse.config.base import (
    AtLeastOne,
    HeaderName,
    Model,
    NumberedHeader,
    OneOrMany,
    TemplateText,
    Text,
    UserName,
    exactly_one,
    wrong,
)
from gatehouse.config.quantities import Between, Duration, parse_duration
from gatehouse.config.secrets import SecretReference
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


Digest = Literal["sha1", "sha256", "sha512"]
KeyEncoding = Literal["utf8", "hex", "base64", "whsec", "sha1"]
PublicKeyEncoding = Literal["pem", "base64"]


class HmacConfig(SigningConfig):
    """`type: hmac`: a keyed hash over the request."""

    type: Literal["hmac"]
    """A keyed hash over the request."""
    digest: Digest = "sha256"
    """The hash function."""
    key: AtLeastOne[KeyEncoding] = ("utf8",)
    """How the secret becomes key bytes; `whsec` is base64 behind `whsec_` or `v1,whsec_`, `sha1` the SHA-1 of
    the secret. With a list, each secret is tried under each reading that fits it."""


class Ed25519Config(SigningConfig):
    """`type: ed25519`: an Ed25519 signature (RFC 8032). The secrets are the provider's public keys."""

    type: Literal["ed25519"]
    """An Ed25519 signature; the secrets are the provider's public keys."""
    key: Literal["hex", "base64", "whpk", "pem"] = "hex"
    """How the public key is written; `whpk` is base64 behind `whpk_`."""


class EcdsaConfig(SigningConfig):
    """`type: ecdsa`: an ECDSA signature. The secrets are the provider's public keys."""

    type: Literal["ecdsa"]
    """An ECDSA signature; the secrets are the provider's public keys."""
    digest: Digest = "sha256"
    """The hash function."""
    key: PublicKeyEncoding = "pem"
    """How the public key is written; `base64` is the DER form (SubjectPublicKeyInfo) in base64."""
    form: Literal["der", "raw"] = "der"
    """How the two numbers of a signature are put together: an ASN.1 sequence, or one after the other."""


class RsaConfig(SigningConfig):
    """`type: rsa`: an RSA signature. The secrets are the provider's public keys."""

    type: Literal["rsa"]
    """An RSA signature; the secrets are the provider's public keys."""
    digest: Digest = "sha256"
    """The hash function."""
    key: PublicKeyEncoding = "pem"
    """How the public key is written; `base64` is the DER form (SubjectPublicKeyInfo) in base64."""
    padding: Literal["pkcs1v15", "pss"] = "pkcs1v15"
    """The padding; the salt of `pss` is as long as the hash."""


class BodyHashConfig(Model):
    """A claim of a token that holds the SHA-256 of the body in hex, and so ties the token to the body."""

    claim: Text
    """The claim's name."""


class JwtConfig(VerifierConfig):
    """`type: jwt`: a signed token (RFC 7519) whose algorithm this config pins."""

    type: Literal["jwt"]
    """A signed token (JWT)."""
    algorithm: Literal["HS256", "RS256", "ES256"]
    """The only algorithm that is accepted, whatever the token says."""
    header: HeaderName | None = None
    """The header that carries the token."""
    prefix: str = ""
    """Text in front of the token, as in `Bearer `."""
    body: Literal[True] | None = None
    """The whole body is the token; `{claims}` is what it says."""
    key: Literal["utf8", "base64", "pem"] = "utf8"
    """How the secret is written: `pem` for RS256 and ES256, whose secrets are public keys. Such a key may be
    a JWK too."""
    jwks: HttpsUrl | None = None
    """Where the provider publishes its keys (RFC 7517), instead of secrets."""
    audience: Text | None = None
    """What `aud` has to be, or to hold."""
    issuer: Text | None = None
    """What `iss` has to be."""
    leeway: Duration = 60.0
    """How far the clocks may be apart when `exp`, `nbf` and `iat` are read."""
    max_age: Duration | None = None
    """How old a token may be by its `iat`, which it then has to have."""
    body_hash: BodyHashConfig | None = None
    """The claim that ties the token to the body; without it the token says nothing about the body."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.body):
            raise wrong("needs exactly one place", "header: NAME or body: true")
        if (self.algorithm == "HS256") == (self.key == "pem") and self.jwks is None:
            raise wrong(
                f"key {self.key} is not for {self.algorithm}", "RS256, ES256: key: pem; HS256: utf8 or base64"
            )
        if self.jwks is not None and self.algorithm == "HS256":
            raise wrong("a published key can't be secret", "algorithm: RS256 or ES256")
        if self.body and self.body_hash:
            raise wrong("a body that is the token can't hold its own hash", "leave body_hash out")
        return self


class TokenConfig(VerifierConfig):
    """`type: token`: a shared token, sent as it is."""

    type: Literal["token"]
    """A shared token, sent as it is."""
    header: HeaderName | None = None
    """The header that carries it."""
    query: Text | None = None
    """The query parameter that carries it."""
    body: Text | None = None
    """The path in the JSON body that carries it."""
    form: Text | None = None
    """The form field that carries it."""
    prefix: str = ""
    """Text in front of the token, as in `Bearer `."""
    each: Text | None = None
    """With `body`: a path to a list of which every element has to carry the token."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.query, self.body, self.form):
            raise wrong("needs exactly one place", "header: NAME, query: name, body: path or form: name")
        if self.each and not self.body:
            raise wrong("each is for tokens in the body", "body: path, inside each element")
        return self


class BasicConfig(VerifierConfig):
    """`type: basic`: HTTP Basic credentials."""

    type: Literal["basic"]
    """HTTP Basic credentials."""
    username: UserName | None = None
    """The user name; the secret is then the password. Without it the secret is `username:password`."""


class AllowlistConfig(Model):
    """`type: allowlist`: the address that a request comes from."""

    type: Literal["allowlist"]
    """The address that a request comes from. Behind a proxy `server.trusted_proxies` has to name it."""
    networks: AtLeastOne[Network]
    """The provider's addresses and networks."""


class TwilioConfig(VerifierConfig):
    """`type: twilio`: Twilio's signature of URL and form, or of URL and hash of the body."""

    type: Literal["twilio"]
    """Twilio's signature; the URL is `server.public_url` and what follows, with its port and without."""


class PaypalConfig(Model):
    """`type: paypal`: PayPal's signature, with a certificate that PayPal serves."""

    type: Literal["paypal"]
    """PayPal's signature; the certificate is fetched from PayPal's hosts only."""
    webhook_id: str
    """The id that PayPal gave the registered address; it is part of what is signed."""


class AwsSnsConfig(Model):
    """`type: aws-sns`: the signature of Amazon SNS, with a certificate that AWS serves."""

    type: Literal["aws-sns"]
    """The signature of Amazon SNS; the certificate is fetched from AWS's SNS hosts only."""
    topic_arn: str
    """The topic that may send: anyone with an AWS account can have SNS sign requests of a topic of theirs."""
    max_age: Duration = 3600.0
    """How old the signed `Timestamp` may be."""


class EbayConfig(VerifierConfig):
    """`type: ebay`: eBay's signature header. The secrets are eBay's public keys."""

    type: Literal["ebay"]
    """eBay's signature header; the secrets are the public keys that its notification API returns."""


class NoneConfig(Model):
    """`type: none`: no verification, so anyone who can reach the path can send."""

    type: Literal["none"]
    """No verification: anyone who can reach the path can send."""
    insecure: Literal[True]
    """Says that you mean it."""


_Alone = (
    HmacConfig
    | Ed25519Config
    | EcdsaConfig
    | RsaConfig
    | JwtConfig
    | TokenConfig
    | BasicConfig
    | AllowlistConfig
    | TwilioConfig
    | PaypalConfig
    | AwsSnsConfig
    | EbayConfig
)
OneVerifier = Annotated[_Alone, Field(discriminator="type")]


class AnyConfig(Model):
    """`type: any`: several verifiers, of which one has to pass."""

    type: Literal["any"]
    """Several verifiers, tried in order until one passes."""
    of: AtLeastOne[OneVerifier]
    """The verifiers. Each may have its own `secrets`."""


VerifyEntry = Annotated[_Alone | AnyConfig | NoneConfig, Field(discriminator="type")]
