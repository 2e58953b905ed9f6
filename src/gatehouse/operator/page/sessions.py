"""Cookies of operators that have logged in, and tokens in forms. Pure.

A session is not stored. Its cookie names a token of the config, and is signed with that token. So every
worker accepts it, and another value of the token ends it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from gatehouse.operator.tokens import LOCAL
from gatehouse.verify.base import ct_equal

if TYPE_CHECKING:
    from gatehouse.operator.tokens import Identity, OperatorTokens

#: Seconds.
LIFETIME: Final = 12 * 3600.0
#: The digits of a time in seconds that can be true.
_LONGEST_TIME: Final = 12
#: Signs the forms of operators who need no token. A restart of the gateway makes them invalid.
_LOCAL_KEY: Final = secrets.token_bytes(32)


def issue(tokens: OperatorTokens, identity: Identity, now: float) -> str:
    """Return the value of the cookie for a session that starts now (Unix seconds)."""
    claim = f"{_encode(identity.name.encode())}.{int(now + LIFETIME)}"
    return f"{claim}.{_signature(tokens, identity, claim)}"


def session_identity(tokens: OperatorTokens, cookie: str, now: float) -> Identity | None:
    """Return whose session a cookie is; None if it has expired, or is not one of ours."""
    claim, _, signature = cookie.rpartition(".")
    name, _, expires = claim.partition(".")
    identity = tokens.identity(_decode(name))
    if identity is None or not (expires.isascii() and expires.isdigit() and len(expires) <= _LONGEST_TIME):
        return None
    expected = _signature(tokens, identity, claim)
    is_ours = ct_equal(signature.encode("utf-8", "replace"), expected.encode())
    return identity if is_ours and now < int(expires) else None


def form_token(tokens: OperatorTokens | None, identity: Identity, cookie: str) -> str:
    """Return the token that each form of a session has to contain."""
    message = b"gatehouse form\n" + cookie.encode("utf-8", "surrogateescape")
    if tokens is None or identity == LOCAL:
        return hmac.new(_LOCAL_KEY, message, "sha256").hexdigest()
    return tokens.sign(identity.name, message).hex()


def is_form_token(given: str, expected: str) -> bool:
    """Compare form tokens in constant time."""
    return ct_equal(given.encode("utf-8", "replace"), expected.encode())


def _signature(tokens: OperatorTokens, identity: Identity, claim: str) -> str:
    # The role is signed too: a token that gets another role ends its sessions.
    return tokens.sign(identity.name, f"gatehouse session\n{identity.role}\n{claim}".encode()).hex()


def _encode(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _decode(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
