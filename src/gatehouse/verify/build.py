"""Builds the verification and the handshakes of a source from its config and secrets.

Schemes that few sources use are imported only when a source uses them, because their libraries load slowly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatehouse.config.coverage import all_verifiers
from gatehouse.config.describe import scheme_of
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
from gatehouse.verify.verified_by import VerifiedBy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.handshakes import HandshakeConfig
    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.config.secrets import SecretRef, Secrets

#: Module and class of each scheme that `SignedVerifier` uses, by type.
_SIGNATURE_SCHEMES = {
    "ed25519": ("gatehouse.verify.asymmetric", "Ed25519Scheme"),
    "ecdsa": ("gatehouse.verify.asymmetric", "EcdsaScheme"),
    "rsa": ("gatehouse.verify.asymmetric", "RsaScheme"),
}
#: Module and class of each verifier that is imported only when needed, by type.
_VERIFIERS = {
    "jwt": ("gatehouse.verify.jwt", "JwtVerifier"),
    "twilio": ("gatehouse.verify.twilio", "TwilioVerifier"),
    "ebay": ("gatehouse.verify.ebay", "EbayVerifier"),
    "paypal": ("gatehouse.verify.paypal", "PaypalVerifier"),
    "aws-sns": ("gatehouse.verify.aws_sns", "AwsSnsVerifier"),
    "truelayer": ("gatehouse.verify.truelayer", "TruelayerVerifier"),
}

#: Types whose secrets are the provider's public keys.
_ASYMMETRIC = (*_SIGNATURE_SCHEMES, "ebay")


def build_verification(source: SourceConfig, secrets: Secrets) -> Verification:
    """Build all verifiers of a source. Raises `SecretError` if a secret is missing, short or malformed."""
    built = (_build_entry(entry, source, secrets) for entry in source.verify)
    verifiers = tuple(verifier for verifier in built if verifier is not None)
    return Verification(verifiers, _verified_by(source), age_limit(source))


def _verified_by(source: SourceConfig) -> VerifiedBy:
    entries = (entry for entry in source.verify if not isinstance(entry, NoneConfig))
    schemes = [
        tuple(map(scheme_of, entry.of if isinstance(entry, AnyConfig) else (entry,))) for entry in entries
    ]
    return VerifiedBy(schemes, list(map(str, verification_secrets(source))))


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
        # The error may quote the secret, so the message names only the reference.
        names = ", ".join(map(str, references))
        what = "public key" if entry.type in _ASYMMETRIC else "secret"
        form = f" (key: {_key_forms(entry.key)})" if hasattr(entry, "key") else ""
        raise SecretError(f"{names}: not a {what} in the form that {entry.type} needs{form}") from error

    if isinstance(entry, VerifierConfig) and entry.secrets:
        all_secrets = verification_secrets(source)
        return OwnSecretsVerifier(
            verifier, tuple(all_secrets.index(reference) + 1 for reference in references)
        )
    return verifier


def verification_secrets(source: SourceConfig) -> list[SecretRef]:
    """Return the secrets that verify the requests of a source. Metrics and logs use these positions."""
    references = [one for entry in all_verifiers(source) for one in _secret_references(entry, source)]
    shared = [one for one in source.secrets if one in references]
    return list(dict.fromkeys([*shared, *references]))


def _key_forms(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else " or ".join(key)


def _secret_references(entry: VerifyEntry, source: SourceConfig) -> tuple[SecretRef, ...]:
    """Return the secrets of a verifier: its own or those of the source; none if it needs none.

    One that is listed twice counts once, so that all positions are those of `verification_secrets`.
    """
    if not isinstance(entry, VerifierConfig) or not entry.needs_secret:
        return ()
    return tuple(dict.fromkeys(entry.secrets or source.secrets))


def build_verifier(entry: VerifyEntry, secrets: Sequence[bytes]) -> Verifier:
    """Build one verifier with its secrets. Raises `ValueError` if a secret is malformed for the scheme."""
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


def _load(location: tuple[str, str]) -> Any:  # noqa: ANN401 - a class found by name
    module, name = location
    return getattr(import_module(module), name)


def build_handshakes(source: SourceConfig, secrets: Secrets) -> Handshakes | None:
    """Build all handshakes of a source; None if it has none, so that its requests skip this step."""
    if not source.handshakes:
        return None
    built = [_build_handshake(config, source, secrets) for config in source.handshakes]
    digests = set(_hmac_digests(source.verify))
    signing = [
        handshake
        for handshake, config in zip(built, source.handshakes, strict=True)
        if isinstance(config.proof, HmacProof) and config.proof.digest in digests
    ]
    return Handshakes(built, signing, event_methods=source.methods)


def _build_handshake(config: HandshakeConfig, source: SourceConfig, secrets: Secrets) -> Handshake:
    """Build one handshake. Only an HMAC proof needs the secrets of the source."""
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
    reference = source.secrets[0]  # the config requires a secret for an HMAC proof
    try:
        return hmac_proof(config.proof, secrets.resolve(reference, source.min_secret))
    except SecretError:
        raise
    except ValueError as error:
        # The error may quote the secret, so the message names only the reference.
        raise SecretError(f"{reference}: not a secret in the form that the proof needs") from error


def _uses_token(proof: HashProof) -> bool:
    return any(placeholder.name == "token" for placeholder in proof.of.placeholders)


def _hmac_digests(entries: Sequence[VerifyEntry]) -> Iterator[str]:
    """Yield the hash functions of all verifiers that use a secret of the source as an HMAC key."""
    for entry in entries:
        if isinstance(entry, AnyConfig):
            yield from _hmac_digests(entry.of)
        elif isinstance(entry, HmacConfig):
            yield entry.digest
        elif isinstance(entry, JwtConfig) and entry.algorithm == "HS256":
            yield "sha256"
        elif isinstance(entry, TwilioConfig):
            yield "sha1"
