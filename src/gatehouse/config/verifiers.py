"""Defines the models of `verify`: one per type of verifier."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gatehouse.config.addresses import HttpsUrl, Network
from gatehouse.config.base import (
    AtLeastOne,
    HeaderName,
    Model,
    Text,
    UserName,
    exactly_one,
    invalid_value,
)
from gatehouse.config.quantities import Duration
from gatehouse.config.signatures import SigningConfig, VerifierConfig
from gatehouse.config.tokens import JwtConfig

Digest = Literal["sha1", "sha256", "sha512"]
KeyEncoding = Literal["utf8", "hex", "base64", "whsec", "sha1"]
PublicKeyEncoding = Literal["pem", "base64"]


class HmacConfig(SigningConfig):
    """`type: hmac`: a keyed hash (HMAC) of the request."""

    type: Literal["hmac"]
    """A keyed hash (HMAC) of the request."""
    digest: Digest = "sha256"
    """The hash function."""
    key: AtLeastOne[KeyEncoding] = ("utf8",)
    """How to convert the secret to key bytes. `whsec` is base64 after `whsec_` or `v1,whsec_`. `sha1` is the
    SHA-1 of the secret. With a list, the gateway tries each secret in every form that it can have."""


class Ed25519Config(SigningConfig):
    """`type: ed25519`: an Ed25519 signature (RFC 8032). The secrets are the provider's public keys."""

    type: Literal["ed25519"]
    """An Ed25519 signature. The secrets are the provider's public keys."""
    key: Literal["hex", "base64", "whpk", "pem"] = "hex"
    """The encoding of the public key. `whpk` is base64 after `whpk_`."""


class EcdsaConfig(SigningConfig):
    """`type: ecdsa`: an ECDSA signature. The secrets are the provider's public keys."""

    type: Literal["ecdsa"]
    """An ECDSA signature. The secrets are the provider's public keys."""
    digest: Digest = "sha256"
    """The hash function."""
    key: PublicKeyEncoding = "pem"
    """The encoding of the public key. `base64` is the DER form (SubjectPublicKeyInfo) in base64."""
    form: Literal["der", "raw"] = "der"
    """The format of a signature's two numbers: an ASN.1 sequence (`der`), or one after the other (`raw`)."""


class RsaConfig(SigningConfig):
    """`type: rsa`: an RSA signature. The secrets are the provider's public keys."""

    type: Literal["rsa"]
    """An RSA signature. The secrets are the provider's public keys."""
    digest: Digest = "sha256"
    """The hash function."""
    key: PublicKeyEncoding = "pem"
    """The encoding of the public key. `base64` is the DER form (SubjectPublicKeyInfo) in base64."""
    padding: Literal["pkcs1v15", "pss"] = "pkcs1v15"
    """The padding. The salt of `pss` is as long as the hash."""


class TokenConfig(VerifierConfig):
    """`type: token`: a shared token that the provider sends unchanged."""

    type: Literal["token"]
    """A shared token that the provider sends unchanged."""
    header: HeaderName | None = None
    """The header that carries the token."""
    query: Text | None = None
    """The query parameter that carries the token."""
    body: Text | None = None
    """The path in the JSON body that carries the token."""
    form: Text | None = None
    """The form field that carries the token."""
    prefix: str = ""
    """Text before the token, such as `Bearer `."""
    each: Text | None = None
    """With `body`: the path to a list. Every element of it must carry the token."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.query, self.body, self.form):
            raise invalid_value(
                "must name exactly one place", "use one of: header: NAME, query: NAME, body: PATH, form: NAME"
            )
        if self.each and not self.body:
            raise invalid_value(
                "`each` is for tokens in the body",
                "add body: PATH, the path inside each element, or remove each",
            )
        return self


class BasicConfig(VerifierConfig):
    """`type: basic`: HTTP Basic credentials."""

    type: Literal["basic"]
    """HTTP Basic credentials."""
    username: UserName | None = None
    """The user name. The secret is then the password. Without a user name, the secret is
    `username:password`."""


class AllowlistConfig(Model):
    """`type: allowlist`: the IP address that a request comes from."""

    type: Literal["allowlist"]
    """The IP address that a request comes from. Behind a proxy, `server.trusted_proxies` must contain the
    proxy."""
    networks: AtLeastOne[Network]
    """The provider's IP addresses and networks."""


class TwilioConfig(VerifierConfig):
    """`type: twilio`: Twilio's signature of the URL and the form, or of the URL and a hash of the body."""

    type: Literal["twilio"]
    """Twilio's signature. The gateway tries the URL, which begins with `server.public_url`, with and without
    a port."""


class PaypalConfig(Model):
    """`type: paypal`: PayPal's signature, with a certificate from PayPal."""

    type: Literal["paypal"]
    """PayPal's signature. The gateway fetches the certificate only from PayPal's hosts."""
    webhook_id: str
    """The id that PayPal gave the registered URL. It is part of the signed text."""


class AwsSnsConfig(Model):
    """`type: aws-sns`: the signature of Amazon SNS, with a certificate from AWS."""

    type: Literal["aws-sns"]
    """The signature of Amazon SNS. The gateway fetches the certificate only from the SNS hosts of AWS."""
    topic_arn: str
    """The only topic that may send. It is required because SNS signs requests for the topic of any AWS
    account."""
    max_age: Duration = 3600.0
    """The maximum age of the signed `Timestamp`."""


class EbayConfig(VerifierConfig):
    """`type: ebay`: eBay's signature header. The secrets are eBay's public keys."""

    type: Literal["ebay"]
    """eBay's signature header. The secrets are the public keys that eBay's notification API returns."""


class TruelayerConfig(Model):
    """`type: truelayer`: TrueLayer's detached signature of the path, some headers and the body."""

    type: Literal["truelayer"]
    """TrueLayer's signature. The gateway fetches the keys only from `jwks`."""
    jwks: HttpsUrl = "https://webhooks.truelayer.com/.well-known/jwks"
    """The URL of the keys. The sandbox has another one. A signature that names any other URL is refused."""
    max_age: Duration = 345600.0
    """The maximum age of the signed `X-TL-Webhook-Timestamp`."""


class NoneConfig(Model):
    """`type: none`: no verification. Anyone who can reach the path can send events."""

    type: Literal["none"]
    """No verification. Anyone who can reach the path can send events."""
    insecure: Literal[True]
    """Must be `true`, as a confirmation."""


_SingleVerifier = (
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
    | TruelayerConfig
)
OneVerifier = Annotated[_SingleVerifier, Field(discriminator="type")]


class AnyConfig(Model):
    """`type: any`: several verifiers. One of them must pass."""

    type: Literal["any"]
    """Several verifiers. The gateway tries them in order until one passes."""
    of: AtLeastOne[OneVerifier]
    """The verifiers. Each may have its own `secrets`."""


VerifyEntry = Annotated[_SingleVerifier | AnyConfig | NoneConfig, Field(discriminator="type")]
