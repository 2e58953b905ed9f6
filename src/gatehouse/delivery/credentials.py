"""The headers that authenticate the gateway to a destination.

They are computed once, when the config is compiled. No message here contains a part of a secret.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from gatehouse.config.outgoing import BasicAuthConfig, BearerAuthConfig
from gatehouse.config.secrets import SecretError

if TYPE_CHECKING:
    from gatehouse.config.outgoing import AuthConfig
    from gatehouse.config.secrets import SecretRef, Secrets

#: Visible ASCII. Servers read other bytes of a header in different ways, and a line break would end it.
_TOKEN: Final = re.compile(rb"[!-~]+")
_VALUE: Final = re.compile(rb"[!-~]([ -~]*[!-~])?")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


def auth_header(auth: AuthConfig, secrets: Secrets) -> tuple[str, str]:
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
