"""Builds verifications of sources with `type: hmac`, and signatures for them."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000
SECRET = "s3cr3t-of-at-least-16-bytes"


def verification(
    *verify: dict[str, Any], secrets: tuple[str, ...] = (SECRET,), **settings: Any
) -> Verification:
    names = {f"S{index}": secret for index, secret in enumerate(secrets)}
    config = SourceConfig.model_validate(
        {
            "verify": verify,
            "event": {"type": "x"},
            "secrets": tuple(f"env:{name}" for name in names),
            **settings,
        }
    )
    return build_verification(config, Secrets(Path(), names | {"BASIC": "user:a-long-enough-password"}))


def hexdigest(message: bytes, secret: str = SECRET, digest: str = "sha256") -> str:
    return hmac.new(secret.encode(), message, digest).hexdigest()


PLAIN = {"type": "hmac", "signature": {"header": "X-Sig"}}
PREFIXED = {"type": "hmac", "signature": {"header": "X-Sig", "prefix": "sha256="}}
PAIRS = {
    "type": "hmac",
    "signature": {"header": "X-Sig", "format": "pairs", "key": "v1"},
    "timestamp": {"pair": "t"},
    "signed": "{timestamp}.{body}",
}
LIST = {
    "type": "hmac",
    "key": "whsec",
    "signature": {"header": "webhook-signature", "format": "list", "key": "v1", "encoding": "base64"},
    "timestamp": {"header": "webhook-timestamp"},
    "signed": "{header:webhook-id}.{timestamp}.{body}",
}
