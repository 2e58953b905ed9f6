"""What authenticates the gateway to a destination.

It is computed once, when the config is compiled. No message here contains a part of a secret.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

from gatehouse.config.outgoing import BasicAuthConfig, BearerAuthConfig, OAuth2AuthConfig
from gatehouse.config.secrets import SecretError

if TYPE_CHECKING:
    from gatehouse.config.outgoing import AuthConfig, HeaderAuthConfig
    from gatehouse.config.secrets import SecretRef, Secrets

#: Visible ASCII. Servers read other bytes of a header in different ways, and a line break would end it.
_TOKEN: Final = re.compile(rb"[!-~]+")
_VALUE: Final = re.compile(rb"[!-~]([ -~]*[!-~])?")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a token endpoint asks for (RFC 6749, client credentials)."""

    token_url: str
    #: The value of `Authorization` for the token endpoint. It is a secret, so the repr omits it.
    authorization: str = field(repr=False)
    scope: str | None


def client_credentials(auth: OAuth2AuthConfig, secrets: Secrets) -> ClientCredentials:
    """Return the credentials for a token endpoint. Raises `SecretError`."""
    secret = _password(auth.client_secret, secrets)
    # RFC 6749, section 2.3.1: both are encoded as in a form before they become Basic credentials.
    authorization = basic(quote_plus(auth.client_id), quote_plus(secret).encode())
    return ClientCredentials(auth.token_url, authorization, auth.scope)


def auth_header(
    auth: BearerAuthConfig | BasicAuthConfig | HeaderAuthConfig, secrets: Secrets
) -> tuple[str, str]:
    """Return the name and the value of the header. Raises `SecretError`."""
    if isinstance(auth, BearerAuthConfig):
        return "Authorization", f"Bearer {_bearer_token(auth.token, secrets)}"
    if isinstance(auth, BasicAuthConfig):
        return "Authorization", basic(auth.username, _password(auth.password, secrets))
    value = secrets.resolve(auth.value)
    if not _VALUE.fullmatch(value):
        raise SecretError(f"{auth.value} has a character that a header can't carry; use printable ASCII")
    return auth.name, value.decode("ascii")


def secret_path(auth: AuthConfig) -> tuple[str, str]:
    """Return the path of the secret below the destination."""
    if isinstance(auth, OAuth2AuthConfig):
        return "auth", "client_secret"
    if isinstance(auth, BearerAuthConfig):
        return "auth", "token"
    return "auth", "password" if isinstance(auth, BasicAuthConfig) else "value"


def basic(user: str, password: bytes) -> str:
    """Return the value of `Authorization` for HTTP Basic (RFC 7617)."""
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode("ascii")


def _bearer_token(reference: SecretRef, secrets: Secrets) -> str:
    token = secrets.resolve(reference)
    if token[:7].lower() == b"bearer ":
        raise SecretError(f"{reference} begins with the word Bearer; it must be only the token")
    if not _TOKEN.fullmatch(token):
        raise SecretError(f"{reference} has a character that a token can't have; use ASCII without spaces")
    return token.decode("ascii")


def _password(reference: SecretRef, secrets: Secrets) -> bytes:
    password = secrets.resolve(reference)
    if _CONTROL.search(password):
        raise SecretError(f"{reference} has a control character, such as a line break")
    return password
