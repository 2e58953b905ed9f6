"""The composition root: builds all parts from a config, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from gatehouse import __version__
from gatehouse.config.addresses import BindAddresses
from gatehouse.delivery.dispatcher import Dispatcher
from gatehouse.delivery.operations import Operations
from gatehouse.errors import StoreError
from gatehouse.gateway.compiled import CompiledConfig
from gatehouse.gateway.operator_routes import ApiParts, api_routes
from gatehouse.gateway.reload import Reloader
from gatehouse.gateway.sampling import Sampler
from gatehouse.ingest.committer import Committer, Reviver
from gatehouse.ingest.confirmation import confirm
from gatehouse.ingest.duplicates import Duplicates
from gatehouse.ingest.handshakes import HandshakeResponder, HandshakeSecrets
from gatehouse.ingest.pipeline import Pipeline
from gatehouse.ingest.rejected import RejectedRequests
from gatehouse.ingest.relay import Relay
from gatehouse.ingest.server import IngestServer
from gatehouse.network.sockets import start_listening
from gatehouse.operator.api import OperatorApi
from gatehouse.operator.audit import Audit, reload_change
from gatehouse.operator.reload_result import ReloadResult
from gatehouse.operator.server import OperatorServer
from gatehouse.operator.status import StatusParts
from gatehouse.operator.stream.api import StreamApi
from gatehouse.operator.stream.catching_up import StoredPast
from gatehouse.operator.tokens import HANGUP, SUPERVISOR
from gatehouse.store.backends import OpenedStore, open_store
from gatehouse.store.clock import SteadyClock, elapsed
from gatehouse.store.disk import DiskWatch
from gatehouse.store.legacy_keys import legacy_places
from gatehouse.store.retention import Retention
from gatehouse.telemetry.live import Hub
from gatehouse.telemetry.log import get_logger
from gatehouse.telemetry.metrics import Metrics
from gatehouse.verify.remote_keys import RemoteKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatehouse.config.addresses import Address
    from gatehouse.config.load import LoadedConfig
    from gatehouse.config.model import Config
    from gatehouse.delivery.destination import Destination
    from gatehouse.ingest.handshakes import Confirm
    from gatehouse.ingest.source import Source
    from gatehouse.operator.reload_result import Changes
    from gatehouse.operator.tokens import Identity
    from gatehouse.store.base import Store

#: Seconds for the requests in progress when the gateway stops. With the next value, stopping takes less than
#: 10 s in total.
REQUEST_GRACE = 2.0
#: Seconds for the attempts in progress.
ATTEMPT_GRACE = 4.0


class WorkerAssignment(Protocol):
    """What the supervisor assigns to one of several workers."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that all workers listen on."""

    @property
    def socket(self) -> Path:
        """The socket of the worker's operator server, for the supervisor only."""

    def load(self) -> LoadedConfig:
        """Load the config in use. Raises `ConfigError`."""


class Gateway:
    """A gateway for one config. `async with Gateway(loaded):` serves until the block ends."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed,
        confirm: Confirm = confirm,
        remote_keys: RemoteKeys | None = None,
        worker: WorkerAssignment | None = None,
    ) -> None:
        """`worker` is set when this gateway is one of several workers."""
        self.metrics = Metrics()
        self._clock = clock
        #: For all comparisons of times: it does not jump when the system clock is set.
        self._steady = SteadyClock(clock, elapsed)
        #: What happens, for those who watch.
        self._live = Hub(self._steady)
        self._remote_keys = remote_keys or RemoteKeys()
        self._confirm = confirm
        #: Secrets from handshakes, for the operator.
        self.handshake_secrets = HandshakeSecrets()
        self._directory = loaded.directory
        self._environment = environment
        self._compiled = self._compile(loaded)
        self.rejected = RejectedRequests(self._compiled.known, clock)
        self._duplicates = Duplicates(self._steady())
        self._worker = worker
        read = worker.load if worker else None
        self._reloader = Reloader(self._compiled, self._compile, self._swap, self.metrics, clock, read=read)
        self._running = contextlib.AsyncExitStack()
        self._store: Store | None = None
        self._is_open = False
        self._disk: DiskWatch | None = None

    @property
    def config(self) -> Config:
        """The config in use."""
        return self._compiled.config

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources in use, by name."""
        return self._compiled.sources

    @property
    def destinations(self) -> Mapping[str, Destination]:
        """The destinations in use, by name."""
        return self._compiled.destinations

    def not_ready(self) -> list[str]:
        """List the parts that cannot serve because a secret is missing."""
        return self._compiled.not_ready_lines()

    async def reload(self, identity: Identity = HANGUP, *, dry_run: bool = False) -> ReloadResult:
        """Read the config file again and use it, or change nothing when it has a problem.

        Requests and attempts in progress finish with the previous config. Raises nothing. Only one reload
        runs at a time. With `dry_run`, the file is only checked.
        """
        result = await self._reloader.reload(dry_run=dry_run)
        change = reload_change(result)
        # A supervisor records its reload once, and not for each worker.
        if change is not None and identity != SUPERVISOR:
            await self._audit.add(identity, change)
        return result

    async def __aenter__(self) -> Gateway:
        async with self._running:
            await self._start()
            self._running = self._running.pop_all()
        self._reloader.active = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reloader.active = self._is_open = False
        get_logger().info("gateway.stopping")
        # Nobody waits for readers, which come back to the next process.
        await self._stream.stop()
        await self._running.aclose()
        get_logger().info("gateway.stopped")

    async def _start(self) -> None:
        """Start the parts in order of dependency. They stop in reverse order."""
        self._compiled.report_readiness(self.metrics)
        self.metrics.reload_success_time.set(self._clock())
        closing = self._running.push_async_callback

        watching = asyncio.create_task(self._steady.watch(), name="clock")
        self._running.callback(watching.cancel)

        # The store is first: without it the gateway can accept nothing.
        opened = await self._open_store()
        store = self._store = opened.store
        closing(store.close)
        await store.use_legacy_places(partial(legacy_places, self._compiled.loaded))

        self._audit = Audit(store, self._steady)
        self._dispatcher = dispatcher = Dispatcher(
            self.destinations.values(),
            store=store,
            metrics=self.metrics,
            clock=self._steady,
            wall_time=self._steady.wall_time_at,
            wall_clock=self._clock,
            live=self._live,
        )
        self._sampler = Sampler(self.metrics, lambda: self._compiled, wall=self._clock, steady=self._steady)
        self._sampler.start()
        self._running.callback(self._sampler.stop)
        self._operations = Operations(store, dispatcher, self.metrics, self._steady)
        # The disk watch starts before the operator server, whose /readyz uses it.
        await self._watch_disk(opened)

        # The operator server starts early, so that an operator can see what fails afterwards.
        await self._start_operator(opened, dispatcher)

        self._retention = Retention(store, self.config.store, self.metrics, self._steady)
        self._retention.start()
        closing(self._retention.stop)

        # Lanes start before the ingest server, so that the deliveries of an earlier process leave at once.
        await dispatcher.start()
        closing(dispatcher.stop, ATTEMPT_GRACE)
        self._operations.start()
        closing(self._operations.stop)

        # The ingest server starts last. Stopping happens in reverse: requests first, then commits, attempts
        # and the store.
        await self._start_ingest(store, dispatcher)
        self._log_started(opened.place)

    async def _start_operator(self, opened: OpenedStore, dispatcher: Dispatcher) -> None:
        closing, store = self._running.push_async_callback, opened.store
        self._api = OperatorApi(
            self.sources,
            self.rejected,
            handshakes=self.handshake_secrets.entries,
            metrics=self.metrics,
            clock=self._clock,
        )
        self._stream = StreamApi(
            self._live,
            StoredPast(store),
            self.metrics,
            overlap=lambda: self._compiled.longest_commit,
            counted=not self._worker,
        )
        parts = ApiParts(
            store,
            dispatcher,
            self._operations,
            self._api,
            self._duplicates,
            self._stream,
            self._audit,
            self._status_parts(opened.place, dispatcher),
            self.metrics,
            lambda: self._compiled,
            lambda: self._reloader.in_use,
            self._environment,
            self._steady,
            self._clock,
            self._sampler.sample,
            self._listening,
            is_worker=self._worker is not None,
        )
        self.operator = OperatorServer(
            self._operator_listen,
            self._compiled.operator_tokens,
            self.metrics,
            {"store": self._probe_store, "disk": self._probe_disk, "ingest": self._probe_ingest},
            api_routes(parts),
            reload=self.reload,
            page_path=None if self._worker else self.config.operator.path,
            clock=self._clock,
        )
        await start_listening(self.operator.start(), "operator.listen", self._operator_listen)
        closing(self.operator.stop)
        closing(self._stream.stop)

    def _status_parts(self, store: str, dispatcher: Dispatcher) -> StatusParts:
        return StatusParts(
            self._api.describe_sources,
            dispatcher.describe,
            store,
            self._probe_store,
            self._probe_disk,
            lambda: self._reloader.last,
        )

    async def _open_store(self) -> OpenedStore:
        if reason := self._compiled.store_not_ready:
            raise StoreError(f"store.password: {reason}", hint="the store can't be opened without it")
        password = self._compiled.store_password
        return await open_store(self.config.store, self._directory, password, self._steady)

    async def _watch_disk(self, opened: OpenedStore) -> None:
        """Watch the disk of the store, if the store is on this machine."""
        if opened.directory is None:
            # NaN instead of the gauge's initial 0, which would raise an alert.
            self.metrics.store_free_bytes.set(math.nan)
            return
        self._disk = DiskWatch(
            opened.directory,
            self.config.store.min_free,
            self.metrics,
            check_store=opened.check_files,
            ping_store=opened.store.ping,
        )
        await self._disk.start()
        self._running.push_async_callback(self._disk.stop)

    async def _start_ingest(self, store: Store, dispatcher: Dispatcher) -> None:
        """Start the ingest server and the parts that it needs."""
        closing = self._running.push_async_callback
        self._committer = committer = Committer(
            store,
            dispatcher,
            self.metrics,
            deadline=self.config.server.commit_deadline,
            disk=self._disk,
            live=self._live,
        )
        closing(committer.drain)
        closing(self._remote_keys.close)
        pipeline = Pipeline(
            committer,
            dispatcher.has_room,
            self._clock,
            HandshakeResponder(self.handshake_secrets, self._confirm),
            self._remote_keys,
            Relay(committer, store, dispatcher),
            Reviver(store, dispatcher),
            duplicates=self._duplicates,
            steady=self._steady,
        )
        self.ingest = IngestServer(
            self.config.server,
            self.sources,
            pipeline,
            self.metrics,
            self._compiled.client_address,
            self.rejected,
            self._live,
        )
        shared_ports = self._worker.ports if self._worker else None
        await start_listening(self.ingest.start(shared_ports), "server.listen", self.config.server.listen)
        self._is_open = True
        closing(self.ingest.stop, REQUEST_GRACE)

    def _compile(self, loaded: LoadedConfig) -> CompiledConfig:
        return CompiledConfig(loaded, self._environment, self._remote_keys)

    def _swap(self, compiled: CompiledConfig, changes: Changes) -> None:
        """Switch to another config. Without an `await`, this is one step for all other tasks."""
        self._compiled = compiled
        server, sources = compiled.config.server, compiled.sources
        # Destinations change before the routes that use them.
        self._dispatcher.replace(compiled.destinations.values())
        self.ingest.replace(server, sources, compiled.client_address)
        self._committer.set_deadline(server.commit_deadline)
        self._retention.use(compiled.config.store)
        if self._disk is not None:
            self._disk.use(compiled.config.store.min_free)
        self.rejected.replace(compiled.known)
        self._api.replace(sources)
        self.operator.use_tokens(compiled.operator_tokens)
        for name in changes.sources.removed:
            self.metrics.forget_source(name)
        compiled.report_readiness(self.metrics)
        # What was added begins at zero, although its counters may be older.
        self._sampler.sample()

    @property
    def _operator_listen(self) -> Address | Path:
        return self._worker.socket if self._worker else self.config.operator.listen

    def _listening(self) -> BindAddresses:
        """Return the addresses of the listener for providers; none before it listens."""
        return self.config.server.listen.at(self.ingest.ports) if self._is_open else BindAddresses()

    def _log_started(self, store: str) -> None:
        listen, operator = self.config.server.listen, self.config.operator.listen._replace
        get_logger().info(
            "gateway.started",
            version=__version__,
            listen=str(listen.at(self.ingest.ports)),
            operator=str(self._worker.socket if self._worker else operator(port=self.operator.port)),
            sources=sorted(self.sources),
            destinations=sorted(self.destinations),
            store=store,
        )

    async def _probe_store(self) -> str | None:
        try:
            if self._store is not None:
                await self._store.ping()
        except StoreError:
            return "unavailable"
        return None if self._store is not None else "closed"

    async def _probe_disk(self) -> str | None:
        return "low" if self._disk is not None and self._disk.is_low else None

    async def _probe_ingest(self) -> str | None:
        return None if self._is_open else "not listening"
