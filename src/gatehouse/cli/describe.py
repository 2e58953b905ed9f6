"""Verification in words, for `check` and `providers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import BasicConfig, HmacConfig, NoneConfig, TokenConfig
from gatehouse.config.scalars import format_duration
from gatehouse.template import Placeholder

if TYPE_CHECKING:
    from gatehouse.config.model import ProviderConfig, SignatureConfig, VerifyEntry
    from gatehouse.template import Template


def verification(config: ProviderConfig) -> str:
    """Say how a provider's requests are verified: `HMAC-SHA256 of body, in X-Mando-Signature`."""
    return " and ".join(map(_verifier, config.verify))


def template(text: Template) -> str:
    """Write a template as in the config; a list of them with `or`."""
    return " or ".join("".join(map(_part, parts)) for parts in text.alternatives)


def duration(seconds: float | None) -> str:
    """Write a duration as in the config, or a dash for none."""
    return "—" if seconds is None else format_duration(seconds)


def _verifier(entry: VerifyEntry) -> str:
    match entry:
        case HmacConfig():
            within = f", within {format_duration(entry.timestamp.tolerance)}" if entry.timestamp else ""
            digest = entry.digest.upper()
            return f"HMAC-{digest} of {template(entry.signed)} in {_place(entry.signature)}{within}"
        case TokenConfig():
            return "token in " + (entry.header or f"query parameter {entry.query}")
        case BasicConfig():
            return "HTTP Basic credentials"
        case NoneConfig():
            return "nothing (insecure)"


def _place(signature: SignatureConfig) -> str:
    if signature.header:
        return " or ".join(signature.header)
    return f"body at {signature.body}" if signature.body else f"form field {signature.form}"


def _part(part: bytes | Placeholder) -> str:
    if isinstance(part, bytes):
        return part.decode()
    return f"{{{part.name}:{part.argument}}}" if part.argument else f"{{{part.name}}}"
