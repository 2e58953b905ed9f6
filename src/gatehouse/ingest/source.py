"""A source compiled from the config: its verification, event reader, routes and handshakes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gatehouse.config.rules import source_path
from gatehouse.config.secrets import SecretError, names_credential
from gatehouse.errors import UnavailableError
from gatehouse.events.dedupe import read_order_key
from gatehouse.events.reader import EventReader
from gatehouse.events.routing import compile_conditions, compile_routes, reachable_destinations
from gatehouse.language.codings import supported_codings
from gatehouse.verify.build import build_handshakes, build_verification, verification_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDict, CIMultiDictProxy

    from gatehouse.config.model import Config, SourceConfig
    from gatehouse.config.secrets import Secrets
    from gatehouse.language.scope import Scope
    from gatehouse.telemetry.metrics import Metrics
    from gatehouse.verify.base import Verification

#: Headers of a single connection or hop, and headers that proxies add.
_TRANSPORT = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "content-length", "content-encoding", "accept-encoding", "expect"),
        *("forwarded", "via", "x-real-ip"),
    }
)
#: Prefixes of names that only the gateway may send.
_RESERVED = ("x-forwarded-", "webhook-", "gatehouse-", "ce-")
_MAX_KEPT_VALUE = 1024


class Source:
    """One source: ready to serve, or not ready because a secret is missing."""

    def __init__(self, name: str, settings: SourceConfig, config: Config, secrets: Secrets) -> None:
        self.name = name
        self.settings = settings
        self.path = source_path(name, settings.path)
        self.max_body = settings.max_body or config.server.max_body
        self.public_url = (config.server.public_url or "").rstrip("/")
        self.splits = settings.event.split is not None
        self.reader = EventReader(name, self.path, settings, provider=settings.provider or name)
        self.route = compile_routes(config.routes, name)
        #: Used instead of `route` if a route of this source has conditions; else None.
        self.route_by_content = compile_conditions(config.routes, name)
        #: The `order_by` template of each destination that has one and may receive events of this source.
        self.orders = {
            destination: order_by
            for destination in reachable_destinations(config.routes, name)
            if (order_by := config.destinations[destination].order_by) is not None
        }
        #: Why the source cannot serve; None when it can.
        self.not_ready: str | None = None
        #: Seconds for the destination's reply when the source relays it; None when it does not.
        self.relay_timeout = _relay_timeout(name, settings, config) if settings.respond == "relay" else None
        self._verification: Verification | None = None
        try:
            self._verification = build_verification(settings, secrets)
        except SecretError as error:
            self.not_ready = str(error)
        #: The names of the secrets for verification, by position.
        self.secrets = tuple(map(str, verification_secrets(settings)))
        #: How bodies are decoded; None when the source accepts no compressed bodies.
        self.decode = settings.decode
        #: The values of Content-Encoding that the source decodes.
        self.codings = supported_codings() if settings.decode else ()
        self.handshakes = build_handshakes(settings, secrets)
        #: The accepted methods, as the `Allow` header lists them.
        accepted = (*settings.methods, *(self.handshakes.methods if self.handshakes else ()))
        self.methods = tuple(dict.fromkeys(accepted))
        self._kept_name = lru_cache(maxsize=512)(self._kept_header_name)

    @property
    def handshake_not_ready(self) -> str | None:
        """Why the source cannot answer handshakes, if it has `handshake_secrets`; it still accepts events.

        A source without `handshake_secrets` may need none: its address may be registered already.
        """
        return self.handshakes.not_ready if self.handshakes and self.settings.handshake_secrets else None

    def ready_verification(self) -> Verification:
        """Return the verification. Raises `UnavailableError` while a secret is missing."""
        if self._verification is None:
            raise UnavailableError("the source is not ready; send again later", reason="not_ready")
        return self._verification

    @property
    def verification(self) -> Verification:
        """The verification. While the source is not ready there is none, so no request can bypass it."""
        if self._verification is None:
            raise SecretError(self.not_ready or "no verification")
        return self._verification

    def destinations(self, event_type: str, scope: Scope) -> tuple[str, ...]:
        """Return the destinations that the routes select for an event."""
        by_content = self.route_by_content
        return self.route(event_type) if by_content is None else by_content(event_type, scope)

    def order_key(self, destination: str, scope: Scope) -> bytes | None:
        """Return the order key of an event at a destination; None when its deliveries are not ordered."""
        template = self.orders.get(destination)
        return None if template is None else read_order_key(template, scope)

    def kept_headers(self, headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> tuple[tuple[str, str], ...]:
        """Return the headers to store with an event. Headers with credentials are left out."""
        keeps, chosen = self._kept_name, []
        for name, value in headers.items():
            kept = keeps(name)
            if kept and len(value) <= _MAX_KEPT_VALUE and value.isprintable():
                chosen.append((kept, value))
        return tuple(chosen)

    def _kept_header_name(self, name: str) -> str | None:
        lower = name.lower()
        verifiers = self._verification.verifiers if self._verification else ()
        dropped = (
            lower in _TRANSPORT
            or lower.startswith(_RESERVED)
            or names_credential(lower)
            or any(lower in verifier.credential_headers() for verifier in verifiers)
        )
        return None if dropped else lower


def _relay_timeout(name: str, settings: SourceConfig, config: Config) -> float:
    """Return the timeout of a relay: the provider's deadline minus the time for the commit."""
    (destination,) = reachable_destinations(config.routes, name)
    timeout, deadline = config.destinations[destination].timeout, settings.answer_deadline
    # When the provider waits hardly longer than a commit may take, half of its deadline is left for the
    # reply.
    return (
        timeout
        if deadline is None
        else min(timeout, max(deadline - config.server.commit_deadline, deadline / 2))
    )


def build_sources(config: Config, secrets: Secrets) -> dict[str, Source]:
    """Compile all sources, by name."""
    return {name: Source(name, settings, config, secrets) for name, settings in config.sources.items()}


def set_readiness_metrics(sources: Mapping[str, Source], metrics: Metrics) -> None:
    """Set `gatehouse_source_ready` for each source."""
    for name, source in sources.items():
        metrics.source(name, len(source.secrets)).ready.set(source.not_ready is None)
