"""Names of headers that carry credentials, whoever made them up. Such a header is never stored or sent on."""

from __future__ import annotations

_WORDS = (
    "auth",
    "cookie",
    "signature",
    "secret",
    "token",
    "hmac",
    "password",
    "api-key",
    "apikey",
)


def names_credential(name: str) -> bool:
    """Tell whether a header's name (lower case), or a pattern of names, says "credential"."""
    return any(word in name for word in _WORDS)
