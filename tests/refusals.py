"""Lets a source refuse a request, and returns the diagnosis."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from gatehouse.config.model import SourceConfig
from gatehouse.config.secrets import Secrets
from gatehouse.diagnosis.diagnose import Diagnosis, diagnose
from gatehouse.diagnosis.known import KnownSource, known_source
from gatehouse.errors import VerificationError
from gatehouse.language.request import Request
from gatehouse.verify.build import build_verification

NOW = 1_750_000_000.0
SECRET = "s3cr3t-of-at-least-16-bytes"
BODY = b'{"id": "evt_1", "amount": 45.50, "name": "caf\xc3\xa9/x"}'
COMPACT = b'{"id":"evt_1","amount":45.50,"name":"caf\xc3\xa9/x"}'

#: Verifiers of the source.
PLAIN = {"type": "hmac", "signature": {"header": "X-Acme-Signature"}}
TIMED = PLAIN | {"timestamp": {"header": "X-Acme-Time"}, "signed": "{timestamp}.{body}"}
URL = PLAIN | {"signed": "{url}{body}"}
ANY = {"type": "any", "of": (PLAIN, {"type": "hmac", "signature": {"header": "X-Old-Signature"}})}


def settings(*verify: dict[str, Any], secrets: int = 1) -> SourceConfig:
    """Return a source with these verifiers, and with the secrets `env:S0`, `env:S1` and so on."""
    names = tuple(f"env:S{index}" for index in range(secrets))
    return SourceConfig.model_validate({"verify": verify, "event": {"type": "x"}, "secrets": names})


def known(name: str, config: SourceConfig, *secrets: str) -> KnownSource:
    return known_source(name, config, environment(*secrets), 1024 * 1024)


def environment(*secrets: str) -> Secrets:
    return Secrets(Path(), {f"S{index}": secret for index, secret in enumerate(secrets)})


def request(headers: Any, body: bytes = BODY, **more: Any) -> Request:
    whole = Request("POST", "/webhooks/acme", "", CIMultiDict(headers), body, "https://h.example", "10.0.0.9")
    return msgspec.structs.replace(whole, **more)


def digest(message: bytes, secret: str | bytes = SECRET, name: str = "sha256") -> bytes:
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, message, name).digest()


def acme(message: bytes, secret: str | bytes = SECRET, name: str = "sha256") -> dict[str, str]:
    """Return the header with the signature of these bytes."""
    return {"X-Acme-Signature": digest(message, secret, name).hex()}


def explained(
    verify: dict[str, Any] | list[dict[str, Any]],
    asked: Request,
    *secrets: str,
    others: tuple[KnownSource, ...] = (),
) -> Diagnosis:
    """Let the source refuse the request, and return the diagnosis."""
    entries = verify if isinstance(verify, list) else [verify]
    config = settings(*entries, secrets=len(secrets or (SECRET,)))
    with pytest.raises(VerificationError) as caught:
        build_verification(config, environment(*(secrets or (SECRET,)))).verify(asked, NOW)
    source = known("acme", config, *(secrets or (SECRET,)))
    return diagnose(asked, source, [source, *others], NOW, caught.value.reason)


def changed(
    new: str,
    old: str,
    *,
    keys: str = "this key",
    subject: str = "The signature",
    path: str = "sources.acme.verify",
) -> str:
    """Return the finding for a change of the config."""
    return f"{subject} matches with {new}, not with {old}. Change {keys} in `{path}`."
