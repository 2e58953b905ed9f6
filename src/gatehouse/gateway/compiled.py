"""A config worked out: its sources and destinations with their secrets. Nothing here runs yet.

The gateway starts from one, and a reload makes the next one beside it, so that a config that can't be used
leaves the running one alone.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.delivery.destination import build_destinations
from gatehouse.diagnosis.known import known_sources
from gatehouse.ingest.client_address import client_address
from gatehouse.ingest.source import Source, build_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.config.load import LoadedConfig
    from gatehouse.verify.base import KnownKeys

#: An operator token that is shorter could be guessed.
_SHORTEST_TOKEN = 16


class CompiledConfig:
    """What a config comes to. Secrets are read here, once."""

    def __init__(
        self, loaded: LoadedConfig, environment: Mapping[str, str] | None, keys: KnownKeys | None
    ) -> None:
        self.loaded = loaded
        self.config = config = loaded.config
        self._secrets = Secrets(loaded.directory, environment)
        self.sources = build_sources(config, self._secrets)
        self.destinations = build_destinations(config, self._secrets)
        #: The sources as a diagnosis sees them.
        self.known = known_sources(config.sources, self._secrets, config.server.max_body, keys)
        self.client_address = client_address(config.server.trusted_proxies)
        #: Why the operator's token can't be used; None when it can, or when none is configured.
        self.operator_not_ready: str | None = None
        self.operator_token = self._resolve_operator_token()
        #: The same of the store's password. Without the one that is configured the gateway does not start.
        self.store_not_ready: str | None = None
        self.store_password = self._resolve_store_password()
        #: Of each source: what its secrets are, for telling whether they changed.
        self.secret_digests = {
            name: tuple(map(self._digest, secret_references(settings)))
            for name, settings in config.sources.items()
        }

    def not_ready(self) -> dict[tuple[str, ...], str]:
        """Say what can't serve for lack of a secret: by its place in the config, why."""
        found: dict[tuple[str, ...], str | None] = {}
        found |= {("sources", one.name): one.not_ready for one in self.sources.values()}
        found |= {
            ("sources", one.name, "handshake_secrets"): one.handshake_not_ready
            for one in self.sources_without_handshake()
        }
        found |= {("destinations", one.name, "secret"): one.not_ready for one in self.destinations.values()}
        found["operator", "token"] = self.operator_not_ready
        found["store", "password"] = self.store_not_ready
        return {place: why for place, why in found.items() if why is not None}

    def not_ready_lines(self) -> list[str]:
        """Say the same in words, a line each."""
        return [f"{_describe_place(place)}: {why}" for place, why in self.not_ready().items()]

    def sources_without_handshake(self) -> list[Source]:
        """List the sources that can't answer handshakes."""
        return [source for source in self.sources.values() if source.handshake_not_ready]

    def _resolve_operator_token(self) -> bytes | None:
        reference = self.config.operator.token
        if reference is None:
            return None
        try:
            return self._secrets.resolve(reference, minimum=_SHORTEST_TOKEN)
        except SecretError as error:
            # Providers are served all the same. To the operator listener nobody has the key but for health.
            self.operator_not_ready = str(error)
            return os.urandom(32)

    def _resolve_store_password(self) -> str | None:
        reference = self.config.store.password
        if reference is None:
            return None
        try:
            return self._secrets.resolve(reference).decode()
        except SecretError as error:
            self.store_not_ready = str(error)
        except UnicodeDecodeError:
            self.store_not_ready = f"{reference} is not UTF-8"
        return None

    def _digest(self, reference: SecretRef) -> bytes | None:
        try:
            return hashlib.sha256(self._secrets.resolve(reference)).digest()
        except SecretError:
            return None


def _describe_place(place: tuple[str, ...]) -> str:
    section, name = place[:2]
    return section if section in ("operator", "store") else f"{section.removesuffix('s')} {name}"


def secret_references(value: Any) -> Iterator[SecretRef]:  # noqa: ANN401 - any part of a config
    """Find every reference to a secret in a part of a config, in its order."""
    if isinstance(value, SecretRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secret_references(getattr(value, name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from secret_references(one)
