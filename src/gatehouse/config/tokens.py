"""Defines the models of `type: jwt`: the token, its claims, and its certificates."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from gatehouse.config.addresses import HttpsUrl
from gatehouse.config.base import (
    AtLeastOne,
    HeaderName,
    Model,
    Text,
    exactly_one,
    invalid_value,
    matching,
    parse_text,
    text_schema,
)
from gatehouse.config.quantities import Duration
from gatehouse.config.signatures import VerifierConfig


class BodyHashConfig(Model):
    """A claim of a token that contains the SHA-256 of the body in hex. It binds the token to the body."""

    claim: Text
    """The name of the claim."""


def parse_claim_value(value: Any) -> Any:
    """Check the value of a claim: one line of text, `true` or `false`."""
    return value if isinstance(value, bool) else parse_text(value)


ClaimValue = Annotated[
    str | bool,
    BeforeValidator(parse_claim_value),
    WithJsonSchema(
        {"title": "text or boolean", "anyOf": [{"type": "string", "minLength": 1}, {"type": "boolean"}]}
    ),
]


class ClaimConfig(Model):
    """A claim that a token must contain, with its value."""

    claim: AtLeastOne[Text]
    """The path of the claim, as in `email` or `data.bundleId`. With several paths, the token must contain one
    of these claims, and each one that it contains must have the value."""
    value: ClaimValue
    """The value that the claim must have: text, `true` or `false`."""


class IssuedConfig(Model):
    """The claim of a token that says when it was made."""

    claim: Text = "iat"
    """The name of the claim."""
    unit: Literal["s", "ms"] = "s"
    """The format of the time: Unix seconds or Unix milliseconds."""


Fingerprint = Annotated[
    str,
    matching(r"[0-9a-f]{64}", "not a fingerprint", "write the SHA-256 of the certificate as 64 hex digits"),
    text_schema("SHA-256 in hex", "[0-9a-f]{64}"),
]
ObjectId = Annotated[
    str,
    matching(
        r"[0-2](\.(0|[1-9][0-9]{0,9})){2,20}",
        "not an object identifier",
        "write it as in 1.2.840.113635.100.6.2.1",
    ),
    text_schema("object identifier", r"[0-2](\.[0-9]+)+", "1.2.840.113635.100.6.2.1"),
]


class CertificatesConfig(Model):
    """The three certificates in the header `x5c` of a token: of the key, an intermediate one, and a root."""

    roots: AtLeastOne[Fingerprint]
    """The SHA-256 fingerprints of the roots that are trusted, in lower-case hex without colons. The third
    certificate must be one of them."""
    leaf: ObjectId
    """The extension that the certificate of the signing key must have."""
    intermediate: ObjectId
    """The extension that the intermediate certificate must have."""


def parse_token_place(value: Any) -> Any:
    """Check where in a body a token is: `true` for the whole body, or a path."""
    return value if value is True else parse_text(value)


TokenPlace = Annotated[
    Literal[True] | str,
    BeforeValidator(parse_token_place),
    WithJsonSchema(
        {"title": "`true` or text", "anyOf": [{"const": True}, {"type": "string", "minLength": 1}]}
    ),
]


class JwtConfig(VerifierConfig):
    """`type: jwt`: a signed token (RFC 7519) with the algorithm that this config names."""

    type: Literal["jwt"]
    """A signed token (JWT)."""
    algorithm: Literal["HS256", "RS256", "ES256"]
    """The only algorithm that is accepted."""
    header: HeaderName | None = None
    """The header that carries the token."""
    prefix: str = ""
    """Text before the token, such as `Bearer `."""
    body: TokenPlace | None = None
    """`true`: the whole body is the token. A path: the token is the text there in a JSON body. `{claims}`
    stands for its content."""
    key: Literal["utf8", "base64", "pem"] = "utf8"
    """The encoding of the secret. RS256 and ES256 need `pem`, because their secrets are public keys. Such a
    key may also be a JWK."""
    jwks: HttpsUrl | None = None
    """The URL at which the provider publishes its keys (RFC 7517). It replaces the secrets."""
    certificates: CertificatesConfig | None = None
    """The certificates in the token. They replace the secrets, and must be valid at the time that `issued`
    names."""
    audience: Text | None = None
    """The value that `aud` must be, or must contain."""
    issuer: Text | None = None
    """The value that `iss` must be."""
    claims: tuple[ClaimConfig, ...] = ()
    """Other claims that the token must contain, each with its value."""
    leeway: Duration = 60.0
    """The maximum difference between the clocks when the gateway checks `exp`, `nbf` and `iat`."""
    max_age: Duration | None = None
    """The maximum age of a token by its time, which is then required. `certificates` need it."""
    issued: IssuedConfig = IssuedConfig()
    """The claim that says when the token was made."""
    body_hash: BodyHashConfig | None = None
    """The claim that binds the token to the body. Without it, the token proves nothing about the body."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not exactly_one(self.header, self.body):
            raise invalid_value(
                "must name exactly one place", "use one of: header: NAME, body: true, body: PATH"
            )
        if (self.algorithm == "HS256") == (self.key == "pem") and self.needs_secret:
            raise invalid_value(
                f"key: {self.key} does not fit {self.algorithm}",
                "use key: pem for RS256 and ES256, key: utf8 or base64 for HS256",
            )
        if self.jwks is not None and self.algorithm == "HS256":
            raise invalid_value(
                "HS256 needs a secret, but `jwks` names public keys",
                "use algorithm: RS256 or ES256, or remove jwks",
            )
        if self.certificates is not None:
            self._check_certificates()
        if self.body and self.body_hash:
            raise invalid_value("a body that is the token cannot contain its own hash", "remove body_hash")
        return self

    def _check_certificates(self) -> None:
        if self.algorithm != "ES256" or self.jwks is not None:
            raise invalid_value(
                "`certificates` are for ES256, and replace other keys",
                "use algorithm: ES256, and remove jwks",
            )
        if self.max_age is None:
            # Whoever has the key of an expired certificate could otherwise sign with any earlier time.
            raise invalid_value(
                "`certificates` need `max_age`",
                "add max_age, longer than the provider retries, as in max_age: 7d",
            )

    @property
    def needs_secret(self) -> bool:
        return self.jwks is None and self.certificates is None
