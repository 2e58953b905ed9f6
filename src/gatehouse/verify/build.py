"""From a source's config and its secrets to its verification.

Schemes that few sources use are imported when one does: their libraries take long to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatehouse.config.coverage import every_verifier
from gatehouse.config.model import (
    AllowlistConfig,
    AnyConfig,
    BasicConfig,
    HmacConfig,
    NoneConfig,
    SigningConfig,
    TokenConfig,
    VerifierConfig,
)
from gatehouse.config.secrets import SecretError
from gatehouse.verify.age import age_limit
from gatehouse.verify.allowlist import AllowlistVerifier
from gatehouse.verify.any import AnyVerifier
from gatehouse.verify.base import Numbered, Verification, Verifier
from gatehouse.verify.basic import BasicVerifier
from gatehouse.verify.hmac import HmacScheme
from gatehouse.verify.signed import SignedVerifier
from gatehouse.verify.token import TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.config.scalars import SecretRef
    from gatehouse.config.secrets import Secrets

#: Type of a signing scheme → its module and class, made from the config and the secrets.
_SCHEMES = {
    "ed25519": ("gatehouse.verify.ed25519", "Ed25519Scheme"),
    "ecdsa": ("gatehouse.verify.ecdsa", "EcdsaScheme"),
    "rsa": ("gatehouse.verify.rsa", "RsaScheme"),
}
#: Type of another scheme → its module and class, made from the config and the secrets, if it takes any.
_VERIFIERS = {
    "jwt": ("gatehouse.verify.jwt", "JwtVerifier"),
    "twilio": ("gatehouse.verify.twilio", "TwilioVerifier"),
    "ebay": ("gatehouse.verify.ebay", "EbayVerifier"),
    "paypal": ("gatehouse.verify.paypal", "PaypalVerifier"),
    "aws-sns": ("gatehouse.verify.aws_sns", "AwsSnsVerifier"),
}

#: Their secrets are the provider's public keys.
_ASYMMETRIC = (*_SCHEMES, "ebay")


def build_verification(source: SourceConfig, secrets: Secrets) -> Verification:
    """Build all verifiers. Raises `SecretError` when a secret is missing, short or of the wrong form."""
    built = (_built(entry, source, secrets) for entry in source.verify)
    return Verification(tuple(verifier for verifier in built if verifier is not None), age_limit(source))


def _built(entry: VerifyEntry, source: SourceConfig, secrets: Secrets) -> Verifier | None:
    if isinstance(entry, NoneConfig):
        return None
    if isinstance(entry, AnyConfig):
        built = (_built(one, source, secrets) for one in entry.of)
        return AnyVerifier(tuple(verifier for verifier in built if verifier is not None))
    references = references_of(entry, source)
    found = secrets.resolve_all(references, getattr(entry, "min_secret", None) or source.min_secret)
    try:
        verifier = build_verifier(entry, found)
    except ValueError as error:
        # The error may quote the secret; the message names where it is kept instead.
        names = ", ".join(map(str, references))
        what = "public key" if entry.type in _ASYMMETRIC else "secret"
        form = f" (key: {_readings(entry.key)})" if hasattr(entry, "key") else ""
        raise SecretError(f"{names}: not a {what} of the form that {entry.type} needs{form}") from error

    if isinstance(entry, VerifierConfig) and entry.secrets:
        every = secrets_of(source)
        return Numbered(verifier, tuple(every.index(reference) + 1 for reference in references))
    return verifier


def secrets_of(source: SourceConfig) -> list[SecretRef]:
    """List the secrets that requests of a source are verified with: they are counted by position."""
    references = [one for entry in every_verifier(source) for one in references_of(entry, source)]
    shared = [one for one in source.secrets if one in references]
    return list(dict.fromkeys([*shared, *references]))


def _readings(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else " or ".join(key)


def references_of(entry: VerifyEntry, source: SourceConfig) -> tuple[SecretRef, ...]:
    """Name the secrets of a verifier: its own, or the source's, if it takes any."""
    if not isinstance(entry, VerifierConfig) or getattr(entry, "jwks", None):
        return ()
    return entry.secrets or source.secrets


def build_verifier(entry: VerifyEntry, secrets: Sequence[bytes]) -> Verifier:
    """Build one verifier with its secrets. Raises `ValueError` when one is not of the scheme's form."""
    match entry:
        case HmacConfig():
            return SignedVerifier(entry, HmacScheme(entry, secrets))
        case SigningConfig():
            return SignedVerifier(entry, _load(_SCHEMES[entry.type])(entry, secrets))
        case TokenConfig():
            return TokenVerifier(entry, secrets)
        case BasicConfig():
            return BasicVerifier(entry, secrets)
        case AllowlistConfig():
            return AllowlistVerifier(entry)
        case _:
            verifier: Verifier = _load(_VERIFIERS[entry.type])(entry, secrets)
            return verifier


def _load(where: tuple[str, str]) -> Any:  # noqa: ANN401 - a class, known by name
    module, name = where
    return getattr(import_module(module), name)
