"""Certificates and signatures of providers that publish their keys."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from doubles.keys import certificate, ec_key, rsa_key
from gatehouse.verify.base import KnownKeys, Verification
from verifying import NOW

DAY = 86_400
WEBHOOK_ID = "1JE4291016473214C"


def issued_certificate(
    name: str, *, key: Any = None, since: float = NOW - DAY, until: float = NOW + DAY
) -> bytes:
    made = key or rsa_key()
    return certificate(made.public_key(), name, issuer=ec_key("authority"), since=since, until=until)


def with_fetched_keys(checked: Verification, keys: KnownKeys) -> Verification:
    for remote in checked.remote:
        remote.keys = keys
    return checked


def signed(text: bytes, digest: Any = None, key: Any = None) -> str:
    made = (key or rsa_key()).sign(text, padding.PKCS1v15(), digest or hashes.SHA256())
    return base64.b64encode(made).decode()
