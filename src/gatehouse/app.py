"""The composition root: builds every part from a config, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from gatehouse import __version__
from gatehouse.delivery.destination import build_destinations
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.diagnosis.known import known_sources
from gatehouse.errors import GatewayError, StoreError
from gatehouse.ingest.client import client_address
from gatehouse.ingest.committer import Committer
from gatehouse.ingest.confirm import confirm
from gatehouse.ingest.handshakes import Greeter, ShownSecrets
from gatehouse.ingest.pipeline import Pipeline
from gatehouse.ingest.rejected import RejectedRequests
from gatehouse.ingest.server import IngestServer
from gatehouse.log import get_logger
from gatehouse.metrics import Metrics
from gatehouse.operator.api import OperatorApi
from gatehouse.operator.server import OperatorServer
from gatehouse.remote_keys import RemoteKeys
from gatehouse.retention import Retention
from gatehouse.secrets import SecretError, Secrets
from gatehouse.source import Source, build_sources, show_readiness
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from gatehouse.config.load import LoadedConfig
    from gatehouse.ingest.handshakes import Confirm
    from gatehouse.store.base import Store

#: Seconds that requests under way get to finish when stopping. With the next one it stays under 10 s in all.
REQUEST_GRACE = 2.0
#: Seconds that attempts under way get.
ATTEMPT_GRACE = 4.0


class Gateway:
    """Gatehouse, from one config: `async with Gateway(loaded):` serves until the block ends."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        confirm: Confirm = confirm,
        remote_keys: RemoteKeys | None = None,
    ) -> None:
        self.config = loaded.config
        self.metrics = Metrics()
        self._clock = clock
        self._remote_keys = remote_keys or RemoteKeys()
        self._confirm = confirm
        #: What providers handed over in handshakes: for the operator's eyes.
        self.shown_secrets = ShownSecrets()
        self._store_path = store_path(loaded)
        secrets = Secrets(loaded.directory, environment)
        self.sources = build_sources(self.config, secrets)
        known = known_sources(self.config.sources, secrets, self.config.server.max_body, self._remote_keys)
        self.rejected = RejectedRequests(known, clock)
        self.destinations = build_destinations(self.config, secrets)
        self._operator_not_ready: str | None = None
        self._operator_token = self._resolve_operator_token(secrets)
        self._running = contextlib.AsyncExitStack()
        self._store: Store | None = None

    def not_ready(self) -> list[str]:
        """Say what can't serve for lack of a secret."""
        sources = [f"source {s.name}: {s.not_ready}" for s in self.sources.values() if s.not_ready]
        destinations = [
            f"destination {d.name}: {d.not_ready}" for d in self.destinations.values() if d.not_ready
        ]
        sources += [f"source {s.name}: {s.handshake_not_ready}" for s in self._without_handshake()]
        operator = [f"operator: {self._operator_not_ready}"] if self._operator_not_ready else []
        return sources + destinations + operator

    async def __aenter__(self) -> Gateway:
        async with self._running:
            await self._start()
            self._running = self._running.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        get_logger().info("gateway.stopping")
        await self._running.aclose()
        get_logger().info("gateway.stopped")

    async def _start(self) -> None:
        """Start from the inside out. Stopping is the reverse, so no part outlives what it needs."""
        show_readiness(self.sources, self.metrics)
        self._log_readiness()
        closing = self._running.push_async_callback

        # The store first: without it nothing can be accepted.
        store = self._store = await SqliteStore.open(self._store_path, clock=self._clock)
        closing(store.close)
        get_logger().info("store.opened", sqlite=store.sqlite_version, wal_reset_bug=store.has_wal_reset_bug)

        # The operator listener before anything can go wrong that an operator would want to see.
        self.operator = OperatorServer(
            self.config.operator.listen,
            self._operator_token,
            self.metrics,
            {"store": self._probe_store, "ingest": self._probe_ingest},
            OperatorApi(self.sources, self.rejected, handshakes=self.shown_secrets.entries),
        )
        await _listen(self.operator.start(), "operator.listen", str(self.config.operator.listen))
        closing(self.operator.stop)

        retention = Retention(store, self.config.store, self.metrics, self._clock)
        retention.start()
        closing(retention.stop)

        # Lanes before the ingest listener: what an earlier process left behind is on its way at once.
        dispatcher = Dispatcher(
            self.destinations.values(), store=store, metrics=self.metrics, clock=self._clock
        )
        await dispatcher.start()
        closing(dispatcher.stop, ATTEMPT_GRACE)

        # Last the door. Stopping begins here: no new requests, then commits, then attempts, then the store.
        committer = Committer(store, dispatcher, self.metrics, deadline=self.config.server.commit_deadline)
        closing(committer.drain)
        greeter = Greeter(self.shown_secrets, self._confirm)
        closing(self._remote_keys.close)
        pipeline = Pipeline(committer, dispatcher.has_room, self._clock, greeter, self._remote_keys)
        self.ingest = IngestServer(
            self.config.server,
            self.sources,
            pipeline,
            self.metrics,
            client_address(self.config.server.trusted_proxies),
            self.rejected,
        )
        await _listen(self.ingest.start(), "server.listen", str(self.config.server.listen))
        closing(self.ingest.stop, REQUEST_GRACE)
        self._log_started()

    def _resolve_operator_token(self, secrets: Secrets) -> bytes | None:
        reference = self.config.operator.token
        if reference is None:
            return None
        try:
            return secrets.resolve(reference, minimum=16)
        except SecretError as error:
            # Providers are served all the same. To the operator listener nobody has the key but for health.
            self._operator_not_ready = str(error)
            return os.urandom(32)

    def _without_handshake(self) -> list[Source]:
        return [source for source in self.sources.values() if source.handshake_not_ready]

    def _log_readiness(self) -> None:
        for source in self.sources.values():
            if source.not_ready:
                get_logger().error("source.not_ready", source=source.name, reason=source.not_ready)
        for source in self._without_handshake():
            get_logger().warning("source.not_ready", source=source.name, reason=source.handshake_not_ready)
        if self._operator_not_ready:
            get_logger().error("operator.not_ready", reason=self._operator_not_ready)

    def _log_started(self) -> None:
        listen, operator = self.config.server.listen, self.config.operator.listen
        get_logger().info(
            "gateway.started",
            version=__version__,
            listen=str(listen._replace(port=self.ingest.port)),
            operator=str(operator._replace(port=self.operator.port)),
            sources=sorted(self.sources),
            destinations=sorted(self.destinations),
            store=str(self._store_path),
        )

    async def _probe_store(self) -> str | None:
        try:
            if self._store is not None:
                await self._store.ping()
        except StoreError:
            return "unavailable"
        return None if self._store is not None else "closed"

    async def _probe_ingest(self) -> str | None:
        return None if self.ingest.port else "not listening"


def store_path(loaded: LoadedConfig) -> Path:
    """Return the SQLite file: beside the config file, unless the URL's path is absolute."""
    return loaded.directory / loaded.config.store.url.removeprefix("sqlite:///")


async def run(gateway: Gateway, *, stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. A second signal ends the process at once."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with gateway:
        await stop.wait()


async def _listen(starting: Awaitable[None], key: str, address: str) -> None:
    try:
        await starting
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        message = f"{key}: can't listen on {address}: {why}"
        raise GatewayError(message, hint="is another process there? choose another address") from error
