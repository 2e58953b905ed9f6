"""From a source's config and its secrets to its verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import BasicConfig, HmacConfig, NoneConfig, TokenConfig
from gatehouse.secrets import SecretError
from gatehouse.verify.base import Verification, Verifier
from gatehouse.verify.basic import BasicVerifier
from gatehouse.verify.hmac import HmacVerifier
from gatehouse.verify.token import TokenVerifier

if TYPE_CHECKING:
    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.secrets import Secrets


def build_verification(source: SourceConfig, secrets: Secrets) -> Verification:
    """Build all verifiers. Raises `SecretError` when a secret is missing, short or of the wrong form."""
    built = (_build(entry, source, secrets) for entry in source.verify)
    return Verification(tuple(verifier for verifier in built if verifier is not None))


def _build(entry: VerifyEntry, source: SourceConfig, secrets: Secrets) -> Verifier | None:
    if isinstance(entry, NoneConfig):
        return None
    references = entry.secrets or source.secrets
    found = secrets.resolve_all(references, entry.min_secret or source.min_secret)
    try:
        match entry:
            case HmacConfig():
                return HmacVerifier(entry, found)
            case TokenConfig():
                return TokenVerifier(entry, found)
            case BasicConfig():
                return BasicVerifier(entry, found)
    except ValueError as error:
        # The error may quote the secret; the message names where it is kept instead.
        names = ", ".join(map(str, references))
        raise SecretError(f"{names}: not a secret of the form that {entry.type} needs") from error
