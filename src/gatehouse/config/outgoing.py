"""Defines the headers, the credentials and the TLS of requests to a destination."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gatehouse.config.addresses import TokenUrl
from gatehouse.config.base import HeaderName, Model, Text, UserName, invalid_value, text_schema
from gatehouse.config.secret_references import SecretReference
from gatehouse.config.secrets import SecretRef, names_credential

#: Headers that belong to one connection, describe the body, or are the gateway's own.
_OWN = frozenset(
    {
        *("accept-encoding", "connection", "expect", "host", "idempotency-key", "keep-alive", "te"),
        *("traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent"),
    }
)
_OWN_PREFIXES = ("ce-", "content-", "gatehouse-", "proxy-", "webhook-")
_CREDENTIALS = ("authorization", "cookie")
#: Visible ASCII with spaces in between. Servers read other characters in different ways.
_VALUE = r"[!-~]([ -~]*[!-~])?"
_MAX_VALUE = 4096


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith(_OWN_PREFIXES)


def parse_free_header(value: Any) -> Any:
    """Check the name of a header that may carry the credentials of a destination."""
    if isinstance(value, str) and _is_own(value.lower()):
        raise invalid_value("a header that the gateway sets itself", "use another header")
    return value


def parse_added_header(value: Any) -> Any:
    """Check the name of a header of `add_headers`, which has no secrets."""
    if isinstance(value, str) and (value.lower() in _CREDENTIALS or names_credential(value.lower())):
        hint = "use auth, as in auth: {type: bearer, token: env:NAME}; for another header, type: header"
        raise invalid_value("a header that carries credentials", hint)
    return parse_free_header(value)


def parse_header_value(value: Any) -> Any:
    """Check the text of a header."""
    if not isinstance(value, str):
        raise invalid_value("must be text", "put the value in quotes")
    if not re.fullmatch(_VALUE, value) or len(value) > _MAX_VALUE:
        hint = f"use 1 to {_MAX_VALUE} printable ASCII characters, without spaces around them"
        raise invalid_value("not the value of a header", hint)
    return value


def check_file(reference: SecretRef) -> SecretRef:
    """Check that a secret is in a file."""
    if reference.kind != "file":
        raise invalid_value("must be a file", 'write file:/path, as in key: "file:/run/secrets/client.key"')
    return reference


FreeHeaderName = Annotated[HeaderName, BeforeValidator(parse_free_header)]
AddedHeaderName = Annotated[HeaderName, BeforeValidator(parse_added_header)]
HeaderValue = Annotated[
    str, BeforeValidator(parse_header_value), text_schema("header value", _VALUE, "production")
]


class BearerAuthConfig(Model):
    """`type: bearer`: a token in the header `Authorization`."""

    type: Literal["bearer"]
    """A token in the header `Authorization: Bearer …`."""
    token: SecretReference
    """The token, without `Bearer`."""


class BasicAuthConfig(Model):
    """`type: basic`: HTTP Basic credentials."""

    type: Literal["basic"]
    """HTTP Basic credentials."""
    username: UserName
    """The user name."""
    password: SecretReference
    """The password."""


class HeaderAuthConfig(Model):
    """`type: header`: a secret in a header of any name, such as an API key."""

    type: Literal["header"]
    """A secret in a header of any name, such as an API key."""
    name: FreeHeaderName
    """The name of the header."""
    value: SecretReference
    """The whole value of the header."""


class OAuth2AuthConfig(Model):
    """`type: oauth2`: an access token from a token endpoint (client credentials)."""

    type: Literal["oauth2"]
    """An access token from a token endpoint (OAuth 2.0, client credentials)."""
    token_url: TokenUrl
    """The URL of the token endpoint: https, or http on loopback."""
    client_id: HeaderValue
    """The id of the gateway at the token endpoint."""
    client_secret: SecretReference
    """Its secret."""
    scope: HeaderValue | None = None
    """The scopes to ask for, with spaces in between."""


#: The types of `auth`.
AuthType = Literal["bearer", "basic", "header", "oauth2"]
AuthConfig = Annotated[
    BearerAuthConfig | BasicAuthConfig | HeaderAuthConfig | OAuth2AuthConfig, Field(discriminator="type")
]


class DestinationTlsConfig(Model):
    """TLS towards a destination. Paths are relative to the config file."""

    ca: Text | None = None
    """A file with the certificates of the authorities to trust, in PEM. They replace the authorities of this
    machine."""
    cert: Text | None = None
    """A file with the certificate of the gateway for the destination, in PEM, followed by the certificates
    between it and its authority."""
    key: Annotated[SecretReference, AfterValidator(check_file)] | None = None
    """A file with the private key of `cert`, in PEM and without a passphrase, as in `file:/path`. Without it,
    `cert` contains the key."""
