"""A configured source, compiled: all that ingest needs of it, worked out when the config is loaded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gatehouse.config.rules import source_path
from gatehouse.config.secrets import SecretError, names_credential
from gatehouse.errors import UnavailableError
from gatehouse.events.dedupe import render_key
from gatehouse.events.event import EventReader
from gatehouse.events.routing import compile_routes, reached
from gatehouse.verify.build import build_handshakes, build_verification, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDict, CIMultiDictProxy

    from gatehouse.config.model import Config, SourceConfig
    from gatehouse.config.secrets import Secrets
    from gatehouse.language.scope import Scope
    from gatehouse.telemetry.metrics import Metrics
    from gatehouse.verify.base import Verification

#: Headers that are about one connection or one hop, or that a proxy in front made up.
_TRANSPORT = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "content-length", "content-encoding", "accept-encoding", "expect"),
        *("forwarded", "via", "x-real-ip"),
    }
)
#: Names that only the gateway itself may send.
_RESERVED = ("x-forwarded-", "webhook-", "gatehouse-", "ce-")
_MAX_KEPT_VALUE = 1024


class Source:
    """One source, ready to serve, or not ready for lack of a secret."""

    def __init__(self, name: str, settings: SourceConfig, config: Config, secrets: Secrets) -> None:
        self.name = name
        self.settings = settings
        self.path = source_path(name, settings.path)
        self.max_body = settings.max_body or config.server.max_body
        self.public_url = (config.server.public_url or "").rstrip("/")
        self.splits = settings.event.split is not None
        self.reader = EventReader(name, self.path, settings, provider=settings.provider or name)
        self.route = compile_routes(config.routes, name)
        #: The `order_by` of the destinations that have one, of those that its events may go to.
        self.orders = {
            destination: order_by
            for destination in reached(config.routes, name)
            if (order_by := config.destinations[destination].order_by) is not None
        }
        #: Why the source can't serve; None when it can.
        self.not_ready: str | None = None
        #: How long its destination may take to reply to what is relayed (seconds); None where nothing is.
        self.relay_timeout = _relay_within(name, settings, config) if settings.respond == "relay" else None
        self._verification: Verification | None = None
        try:
            self._verification = build_verification(settings, secrets)
        except SecretError as error:
            self.not_ready = str(error)
        #: The names of the secrets that requests are verified with, by position.
        self.secrets = tuple(map(str, secrets_of(settings)))
        self.handshakes = build_handshakes(settings, secrets)
        #: The methods it takes, as the `Allow` header names them.
        self.methods = ("POST", *(self.handshakes.methods if self.handshakes else ()))
        self._kept_name = lru_cache(maxsize=512)(self._kept_header_name)

    @property
    def handshake_not_ready(self) -> str | None:
        """Why a handshake can't be answered, where there are `handshake_secrets`; events still come in.

        Without any it may well need none: its address is registered already.
        """
        return self.handshakes.not_ready if self.handshakes and self.settings.handshake_secrets else None

    def ready_verification(self) -> Verification:
        """Return the verification. Raises `UnavailableError` while the source lacks a secret."""
        if self._verification is None:
            raise UnavailableError("the source is not ready; send again later", reason="not_ready")
        return self._verification

    @property
    def verification(self) -> Verification:
        """The verification. There is none, and so no way around it, while the source is not ready."""
        if self._verification is None:
            raise SecretError(self.not_ready or "no verification")
        return self._verification

    def order_key(self, destination: str, scope: Scope) -> bytes | None:
        """Return what an event is ordered by at a destination; None where, or when, it is not."""
        template = self.orders.get(destination)
        return None if template is None else render_key(template, scope)

    def kept_headers(self, headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> tuple[tuple[str, str], ...]:
        """Choose the headers that are stored with an event: none that carries a credential."""
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


def _relay_within(name: str, settings: SourceConfig, config: Config) -> float:
    """Leave the commit its time, out of that in which the provider wants its answer."""
    (destination,) = reached(config.routes, name)
    timeout, waits = config.destinations[destination].timeout, settings.answer_deadline
    # A provider that waits for hardly longer than a commit may take is not kept from its reply altogether.
    return timeout if waits is None else min(timeout, max(waits - config.server.commit_deadline, waits / 2))


def build_sources(config: Config, secrets: Secrets) -> dict[str, Source]:
    """Compile every source, by name."""
    return {name: Source(name, settings, config, secrets) for name, settings in config.sources.items()}


def set_readiness_metrics(sources: Mapping[str, Source], metrics: Metrics) -> None:
    """Set `gatehouse_source_ready` of each source."""
    for name, source in sources.items():
        metrics.source(name, len(source.secrets)).ready.set(source.not_ready is None)
