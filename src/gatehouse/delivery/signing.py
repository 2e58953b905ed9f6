"""The Standard Webhooks signature of what a destination gets.

The scheme is that of github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "whsec_"
#: The limits of the specification.
_MIN_KEY, _MAX_KEY = 24, 64


def signing_key(secret: str) -> bytes:
    """Parse `whsec_<base64>`. Raises `ValueError`, whose message does not contain the secret."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"a signing secret starts with {PREFIX}")
    text = secret.removeprefix(PREFIX)
    try:
        # Some tools omit the padding.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {PREFIX} is not base64") from None
    if not _MIN_KEY <= len(key) <= _MAX_KEY:
        raise ValueError(f"a signing secret has {_MIN_KEY} to {_MAX_KEY} bytes, this one has {len(key)}")
    return key


def signature(keys: Iterable[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """Sign with every key, because during a rotation the receiver may know either."""
    signed = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    return " ".join(["v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys])
