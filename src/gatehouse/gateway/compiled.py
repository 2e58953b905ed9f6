"""Compiles a config: sources and destinations with their secrets, not yet running.

The gateway starts from a compiled config. A reload compiles the next one separately, so an unusable config
does not affect the running gateway.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from gatehouse.config.secrets import SecretError, SecretRef, Secrets
from gatehouse.delivery.destination import build_destinations
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import ConfigError
from gatehouse.ingest.client_address import client_address
from gatehouse.ingest.source import Source, build_sources, set_readiness_metrics
from gatehouse.network.authorities import read_authorities
from gatehouse.operator.tokens import DUPLICATE_HINT, OperatorTokens, duplicate_message
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatehouse.config.document import KeyPath
    from gatehouse.config.load import LoadedConfig
    from gatehouse.events.event import Event
    from gatehouse.telemetry.metrics import Metrics
    from gatehouse.verify.base import KnownKeys

#: Seconds that a commit may take beyond its deadline.
_COMMIT_MARGIN = 2.0


class CompiledConfig:
    """A compiled config. The secrets are read once, here."""

    def __init__(
        self, loaded: LoadedConfig, environment: Mapping[str, str] | None, keys: KnownKeys | None
    ) -> None:
        self.loaded = loaded
        self.config = config = loaded.config
        self._secrets = Secrets(loaded.directory, environment)
        self.sources = build_sources(config, self._secrets)
        self.destinations = build_destinations(config, self._secrets)
        if self._connects_with_tls():
            read_authorities()
        #: The sources as the diagnosis uses them.
        self.known = known_sources(config.sources, self._secrets, config.server.max_body, keys)
        self.client_address = client_address(config.server.trusted_proxies)
        #: Providers are served even if no token can be used. Then only health checks remain accessible.
        self.operator_tokens = OperatorTokens(config.operator, self._secrets)
        self._refuse_duplicate_tokens()
        #: Why the password of the store cannot be used; None when it can, or when none is configured. Without
        #: a configured password the gateway does not start.
        self.store_not_ready: str | None = None
        self.store_password = self._resolve_store_password()
        #: Digests of the secrets of each source, to detect changes.
        self.secret_digests = {
            name: tuple(map(self._digest, secret_references(settings)))
            for name, settings in config.sources.items()
        }

    @property
    def longest_commit(self) -> float:
        """How long after its receipt an event may be committed (seconds)."""
        relays = [source.relay_timeout or 0.0 for source in self.sources.values()]
        return _COMMIT_MARGIN + self.config.server.commit_deadline + max(relays, default=0.0)

    def _connects_with_tls(self) -> bool:
        """Return whether there are https destinations, keys that providers publish, or URLs to confirm."""
        handshakes = (one for source in self.config.sources.values() for one in source.handshakes)
        return (
            any(destination.connects_with_tls for destination in self.destinations.values())
            or any(not one.not_ready and one.verification.remote for one in self.sources.values())
            or any(one.confirm for one in handshakes)
        )

    def routed(self, event: Event) -> tuple[str, ...]:
        """Return the destinations that the routes select now for a stored event."""
        source = self.sources.get(event.source)
        return () if source is None else source.destinations(event.type, source.reader.stored_scope(event))

    def not_ready(self) -> dict[KeyPath, str]:
        """Return why parts cannot serve because a secret is missing, by their path in the config."""
        found: dict[KeyPath, str | None] = {}
        found |= {("sources", one.name): one.not_ready for one in self.sources.values()}
        found |= {
            ("sources", one.name, "handshake_secrets"): one.handshake_not_ready
            for one in self.sources_without_handshake()
        }
        found |= {
            ("destinations", one.name, *fault.path): fault.why
            for one in self.destinations.values()
            for fault in one.faults
        }
        found |= self.operator_tokens.not_ready
        found["store", "password"] = self.store_not_ready
        return {place: why for place, why in found.items() if why is not None}

    def not_ready_lines(self) -> list[str]:
        """Return the same as lines of text."""
        return [f"{_describe_place(place)}: {why}" for place, why in self.not_ready().items()]

    def sources_without_handshake(self) -> list[Source]:
        """List the sources that cannot answer handshakes."""
        return [source for source in self.sources.values() if source.handshake_not_ready]

    def report_readiness(self, metrics: Metrics) -> None:
        """Set the gauges of the sources, and log what lacks its secrets."""
        set_readiness_metrics(self.sources, metrics)
        for source in self.sources.values():
            if source.not_ready:
                get_logger().error("source.not_ready", source=source.name, reason=source.not_ready)
        for source in self.sources_without_handshake():
            get_logger().warning("source.not_ready", source=source.name, reason=source.handshake_not_ready)
        for reason in self.operator_tokens.not_ready.values():
            get_logger().error("operator.not_ready", reason=reason)

    def _refuse_duplicate_tokens(self) -> None:
        """Raise `ConfigError` if two tokens have the same value. A role would be a matter of chance."""
        problems = [
            self.loaded.document.problem(path, duplicate_message(name), DUPLICATE_HINT)
            for path, name in self.operator_tokens.duplicates()
        ]
        if problems:
            raise ConfigError(problems)

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


def _describe_place(place: KeyPath) -> str:
    section, name = map(str, place[:2])
    return section if section in ("operator", "store") else f"{section.removesuffix('s')} {name}"


def secret_references(value: Any) -> Iterator[SecretRef]:  # noqa: ANN401 - any part of a config
    """Yield every reference to a secret in a part of a config, in order."""
    if isinstance(value, SecretRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secret_references(getattr(value, name))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from secret_references(one)
