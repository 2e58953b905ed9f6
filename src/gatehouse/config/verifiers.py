"""The models of `verify`: one per type of verifier, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gatehouse.config.base import Model, exactly_one
from gatehouse.config.places import HttpsUrl, Network
from gatehouse.config.scalars import Duration, wrong
from gatehouse.config.signatures import SigningConfig, VerifierConfig
from gatehouse.config.texts import AtLeastOne, HeaderName, Text, UserName

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
