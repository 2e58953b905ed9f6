"""From a source's config and its secrets to its handshakes. Each has its own secrets, or is not ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.handshakes import HashProof, HmacProof
from gatehouse.config.model import AnyConfig, HmacConfig, JwtConfig, TwilioConfig
from gatehouse.config.secrets import SecretError
from gatehouse.verify.handshake import Handshake, Handshakes
from gatehouse.verify.proof import Prove, hash_proof, hmac_proof

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatehouse.config.handshakes import HandshakeConfig
    from gatehouse.config.model import SourceConfig, VerifyEntry
    from gatehouse.config.secrets import Secrets


def build_handshakes(source: SourceConfig, secrets: Secrets) -> Handshakes | None:
    """Build all handshakes; None when there is none, which costs a request nothing."""
    if not source.handshakes:
        return None
    built = [_built(config, source, secrets) for config in source.handshakes]
    digests = set(_keyed_digests(source.verify))
    guards = [
        handshake
        for handshake, config in zip(built, source.handshakes, strict=True)
        if isinstance(config.proof, HmacProof) and config.proof.digest in digests
    ]
    return Handshakes(built, guards)


def _built(config: HandshakeConfig, source: SourceConfig, secrets: Secrets) -> Handshake:
    """Build one. It works without the source's own secrets unless it proves with them."""
    hashes = isinstance(config.proof, HashProof) and _names_token(config.proof)
    try:
        tokens = _tokens(source, secrets) if config.token is not None or hashes else []
        return Handshake(config, tokens, _prover(config, tokens, source, secrets))
    except SecretError as error:
        return Handshake(config, not_ready=f"handshake {config.name}: {error}")


def _tokens(source: SourceConfig, secrets: Secrets) -> list[bytes]:
    if not source.handshake_secrets:
        raise SecretError("handshake_secrets is not set")
    return secrets.resolve_all(source.handshake_secrets)


def _prover(
    config: HandshakeConfig, tokens: Sequence[bytes], source: SourceConfig, secrets: Secrets
) -> Prove | None:
    if config.proof is None:
        return None
    if isinstance(config.proof, HashProof):
        return hash_proof(config.proof, tokens[0] if tokens else b"")
    reference = source.secrets[0]  # there is one: config/relations.py refuses a proof without
    try:
        return hmac_proof(config.proof, secrets.resolve(reference, source.min_secret))
    except SecretError:
        raise
    except ValueError as error:
        # The error may quote the secret; the message names where it is kept instead.
        raise SecretError(f"{reference}: not a secret of the form that the proof needs") from error


def _names_token(proof: HashProof) -> bool:
    return any(placeholder.name == "token" for placeholder in proof.of.placeholders)


def _keyed_digests(entries: Sequence[VerifyEntry]) -> Iterator[str]:
    """Name the hash functions with which a secret of the source may sign events."""
    for entry in entries:
        if isinstance(entry, AnyConfig):
            yield from _keyed_digests(entry.of)
        elif isinstance(entry, HmacConfig):
            yield entry.digest
        elif isinstance(entry, JwtConfig) and entry.algorithm == "HS256":
            yield "sha256"
        elif isinstance(entry, TwilioConfig):
            yield "sha1"
