"""Builds the verification and the handshakes of a source from its config and its secrets.

Schemes that few sources use are imported only when needed, because their libraries load slowly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatehouse.config.coverage import all_verifiers
from gatehouse.config.handshakes import HashProof, HmacProof
from gatehouse.config.model import (
    AllowlistConfig,
    AnyConfig,
    BasicConfig,
    HmacConfig,
    JwtConfig,
    NoneConfig,
    SigningConfig,
    TokenConfig,
    TwilioConfig,
    VerifierConfig,
)
from gatehouse.config.secrets import SecretError
from gatehouse.verify.allowlist import AllowlistVerifier
from gatehouse.verify.any import AnyVerifier
from gatehouse.verify.base import OwnSecretsVerifier, Verification, Verifier
from gatehouse.verify.basic import BasicVerifier
from gatehouse.verify.freshness import age_limit
from gatehouse.verify.handshake import Handshake, Handshakes, Proof, hash_proof, hmac_proof
from gatehouse.verify.hmac import HmacScheme
from gatehouse.verify.signature import SignedVerifier
from gatehouse.verify.token import TokenVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.handshakes import HandshakeConfig
    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.config.secrets import SecretRef, Secrets

#: Type of a signing scheme → its module and class, made from the config and the secrets.
_SIGNATURE_SCHEMES = {
    "ed25519": ("gatehouse.verify.asymmetric", "Ed25519Scheme"),
    "ecdsa": ("gatehouse.verify.asymmetric", "EcdsaScheme"),
    "rsa": ("gatehouse.verify.asymmetric", "RsaScheme"),
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
_ASYMMETRIC = (*_SIGNATURE_SCHEMES, "ebay")


def build_verification(source: SourceConfig, secrets: Secrets) -> Verification:
    """Build all verifiers. Raises `SecretError` when a secret is missing, short or of the wrong form."""
    built = (_build_entry(entry, source, secrets) for entry in source.verify)
    return Verification(tuple(verifier for verifier in built if verifier is not None), age_limit(source))


def _build_entry(entry: VerifyEntry, source: SourceConfig, secrets: Secrets) -> Verifier | None:
    if isinstance(entry, NoneConfig):
        return None
    if isinstance(entry, AnyConfig):
        built = (_build_entry(one, source, secrets) for one in entry.of)
        return AnyVerifier(tuple(verifier for verifier in built if verifier is not None))
    references = _secret_references(entry, source)
    found = secrets.resolve_all(references, getattr(entry, "min_secret", None) or source.min_secret)
    try:
        verifier = build_verifier(entry, found)
    except ValueError as error:
        # The error may quote the secret; the message names where it is kept instead.
        names = ", ".join(map(str, references))
        what = "public key" if entry.type in _ASYMMETRIC else "secret"
        form = f" (key: {_key_forms(entry.key)})" if hasattr(entry, "key") else ""
        raise SecretError(f"{names}: not a {what} of the form that {entry.type} needs{form}") from error

    if isinstance(entry, VerifierConfig) and entry.secrets:
        every = verification_secrets(source)
        return OwnSecretsVerifier(verifier, tuple(every.index(reference) + 1 for reference in references))
    return verifier


def verification_secrets(source: SourceConfig) -> list[SecretRef]:
    """List the secrets that requests of a source are verified with: they are counted by position."""
    references = [one for entry in all_verifiers(source) for one in _secret_references(entry, source)]
    shared = [one for one in source.secrets if one in references]
    return list(dict.fromkeys([*shared, *references]))


def _key_forms(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else " or ".join(key)


def _secret_references(entry: VerifyEntry, source: SourceConfig) -> tuple[SecretRef, ...]:
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
            return SignedVerifier(entry, _load(_SIGNATURE_SCHEMES[entry.type])(entry, secrets))
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


def build_handshakes(source: SourceConfig, secrets: Secrets) -> Handshakes | None:
    """Build all handshakes; None when there is none, which costs a request nothing."""
    if not source.handshakes:
        return None
    built = [_build_handshake(config, source, secrets) for config in source.handshakes]
    digests = set(_hmac_digests(source.verify))
    guards = [
        handshake
        for handshake, config in zip(built, source.handshakes, strict=True)
        if isinstance(config.proof, HmacProof) and config.proof.digest in digests
    ]
    return Handshakes(built, guards)


def _build_handshake(config: HandshakeConfig, source: SourceConfig, secrets: Secrets) -> Handshake:
    """Build one. It works without the source's own secrets unless it proves with them."""
    hashes = isinstance(config.proof, HashProof) and _uses_token(config.proof)
    try:
        tokens = _handshake_tokens(source, secrets) if config.token is not None or hashes else []
        return Handshake(config, tokens, _build_proof(config, tokens, source, secrets))
    except SecretError as error:
        return Handshake(config, not_ready=f"handshake {config.name}: {error}")


def _handshake_tokens(source: SourceConfig, secrets: Secrets) -> list[bytes]:
    if not source.handshake_secrets:
        raise SecretError("handshake_secrets is not set")
    return secrets.resolve_all(source.handshake_secrets)


def _build_proof(
    config: HandshakeConfig, tokens: Sequence[bytes], source: SourceConfig, secrets: Secrets
) -> Proof | None:
    if config.proof is None:
        return None
    if isinstance(config.proof, HashProof):
        return hash_proof(config.proof, tokens[0] if tokens else b"")
    reference = source.secrets[0]  # the config requires a secret for a proof
    try:
        return hmac_proof(config.proof, secrets.resolve(reference, source.min_secret))
    except SecretError:
        raise
    except ValueError as error:
        # The error may quote the secret; the message names where it is kept instead.
        raise SecretError(f"{reference}: not a secret of the form that the proof needs") from error


def _uses_token(proof: HashProof) -> bool:
    return any(placeholder.name == "token" for placeholder in proof.of.placeholders)


def _hmac_digests(entries: Sequence[VerifyEntry]) -> Iterator[str]:
    """Name the hash functions with which a secret of the source may sign events."""
    for entry in entries:
        if isinstance(entry, AnyConfig):
            yield from _hmac_digests(entry.of)
        elif isinstance(entry, HmacConfig):
            yield entry.digest
        elif isinstance(entry, JwtConfig) and entry.algorithm == "HS256":
            yield "sha256"
        elif isinstance(entry, TwilioConfig):
            yield "sha1"
