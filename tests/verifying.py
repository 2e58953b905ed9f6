"""Builds verifications from configs, and requests to verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.base import Verification
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000.0


def verification(*verify: dict[str, Any], secrets: Sequence[str | bytes] = (), **more: Any) -> Verification:
    """Build the verification of a source with these verifiers and secrets."""
    texts = [secret if isinstance(secret, str) else secret.decode() for secret in secrets]
    environment = {f"S{index}": text for index, text in enumerate(texts)}
    settings = {"verify": verify, "event": {"type": "x"}, "min_secret": 1} | more
    references = tuple(f"env:{name}" for name in environment)
    config = SourceConfig.model_validate(settings | ({"secrets": references} if references else {}))
    return build_verification(config, Secrets(Path(), environment))


def request(
    body: bytes = b"{}", headers: Any = (), query: str = "", public_url: str = "https://h.example"
) -> Request:
    """Create a POST request to /webhooks/a."""
    return Request("POST", "/webhooks/a", query, CIMultiDict(headers), body, public_url)


def refusal_reason(checked: Verification, asked: Request, now: float = NOW) -> str:
    """Return the reason why the request is refused. Fails if it passes."""
    with pytest.raises(VerificationError) as caught:
        checked.verify(asked, now)
    return caught.value.reason


def flipped(raw: bytes, bit: int) -> bytes:
    """Return the bytes with one bit flipped."""
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(changed)
