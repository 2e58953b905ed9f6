"""The supervisor of `serve --workers N`: starts the workers and answers operators on their behalf."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gatehouse import __version__
from gatehouse.errors import GatewayError
from gatehouse.gateway.compiled import CompiledConfig
from gatehouse.gateway.reload import Reloader
from gatehouse.network.sockets import bind, start_listening
from gatehouse.operator.audit import reload_change
from gatehouse.operator.config_in_use import ConfigApi
from gatehouse.operator.server import OperatorServer
from gatehouse.operator.stream.api import StreamApi
from gatehouse.operator.tokens import HANGUP
from gatehouse.telemetry.live import Hub
from gatehouse.telemetry.log import get_logger
from gatehouse.telemetry.metrics import SupervisorMetrics
from gatehouse.workers.api import WorkersApi, record_change, reload_all
from gatehouse.workers.metrics import MergedMetrics
from gatehouse.workers.process import NoAnswerError, WorkerProcess
from gatehouse.workers.stream import LATE, WorkersFeed, WorkersPast
from gatehouse.workers.worker import SharedFolder

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from gatehouse.config.addresses import Address
    from gatehouse.config.load import LoadedConfig
    from gatehouse.errors import Problem
    from gatehouse.operator.reload_result import Changes, ReloadResult
    from gatehouse.operator.tokens import Identity

#: Seconds for the workers to stop before they are killed. Their own graceful stop takes a little less.
_GRACE = 9.0
#: Seconds for a worker's readiness answer.
_PROBE_WITHIN = 2.0
_OK = 200


class Supervisor:
    """Several gateways from one config. `async with Supervisor(loaded, 2):` serves until the block ends.

    `options` are passed to `gatehouse serve` for each worker.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        workers: int,
        *,
        options: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._compiled = self._compile(loaded)
        self._number = workers
        self._options = options
        self._metrics = SupervisorMetrics(workers)
        self._clock = clock
        self._reloader = Reloader(
            self._compiled, self._compile, self._swap, self._metrics, clock, distribute=self._distribute
        )
        self._running = contextlib.AsyncExitStack()
        self._workers: list[WorkerProcess] = []

    def not_ready(self) -> list[str]:
        """List the parts that cannot serve because a secret is missing."""
        return self._compiled.not_ready_lines()

    async def reload(self, identity: Identity = HANGUP, *, dry_run: bool = False) -> ReloadResult:
        """Reload the config file in all workers, or in none of them. With `dry_run`, only check it."""
        result = await self._reloader.reload(dry_run=dry_run)
        if change := reload_change(result):
            await record_change(self._workers, identity, change)
        return result

    async def __aenter__(self) -> Supervisor:
        async with self._running:
            await self._start()
            self._running = self._running.pop_all()
        self._reloader.active = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reloader.active = False
        self._handle_second_signal()
        get_logger().info("gateway.stopping")
        await self._stream.stop()
        await self._running.aclose()
        get_logger().info("gateway.stopped")

    async def _start(self) -> None:
        """Start in order: what the workers need, the operator server, the workers."""
        config, closing = self._compiled.config, self._running.push_async_callback
        self._metrics.reload_success_time.set(self._clock())
        folder = self._create_folder()
        ports = [SharedPort() for _ in config.server.listen.addresses]
        for port, address in zip(ports, config.server.listen.addresses, strict=True):
            self._running.callback(port.close)
            await start_listening(port.reserve(address), "server.listen", address)
        self._shared = SharedFolder(folder)
        self._shared.write_initial(self._compiled.loaded, *(port.port for port in ports))

        workers = map(self._shared.worker, range(1, self._number + 1))
        self._workers += [WorkerProcess(worker, self._options, self._changed) for worker in workers]
        self._merged_metrics = MergedMetrics(self._metrics, self._workers)
        for worker in self._workers:
            closing(worker.client.close)
        self._stream = self._create_stream()
        self._operator = self._create_operator()
        await start_listening(self._operator.start(), "operator.listen", config.operator.listen)
        closing(self._operator.stop)
        closing(self._stream.stop)

        closing(self._stop_workers)
        for worker in self._workers:
            worker.start()
        await asyncio.gather(*(worker.wait_until_serving() for worker in self._workers))
        self._log_started([port.port for port in ports])

    def _create_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="gatehouse-"))
        self._running.callback(shutil.rmtree, folder, ignore_errors=True)
        # Cleaners of /tmp leave locked folders alone (systemd's tmpfiles.d(5)).
        lock = os.open(folder, os.O_RDONLY)
        self._running.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return folder

    def _create_stream(self) -> StreamApi:
        hub = Hub(self._clock)
        return StreamApi(
            hub,
            WorkersPast(hub, self._workers),
            self._metrics,
            overlap=lambda: self._compiled.longest_commit + LATE,
            late=LATE,
            feed=WorkersFeed(hub, self._workers),
        )

    def _create_operator(self) -> OperatorServer:
        return OperatorServer(
            self._compiled.config.operator.listen,
            self._compiled.operator_tokens,
            self._metrics,
            {f"worker {worker.number}": partial(_probe, worker) for worker in self._workers},
            [
                *self._stream.routes(),
                *ConfigApi(lambda: self._reloader.in_use).routes(),
                *WorkersApi(self._workers, lambda: self._reloader.last, self._clock).routes(),
            ],
            reload=self.reload,
            exposition=self._merged_metrics.exposition,
            page_path=self._compiled.config.operator.path,
            clock=self._clock,
        )

    def _log_started(self, ports: Sequence[int]) -> None:
        config = self._compiled.config
        listen, operator = config.server.listen, config.operator.listen
        get_logger().info(
            "gateway.started",
            version=__version__,
            listen=str(listen.at(ports)),
            operator=str(operator._replace(port=self._operator.port)),
            workers=self._number,
        )

    async def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        stopping = asyncio.gather(*(worker.wait_until_ended() for worker in self._workers))
        await asyncio.wait([stopping], timeout=_GRACE)
        for worker in self._workers:
            worker.kill()
        await stopping

    def _handle_second_signal(self) -> None:
        """Stop everything at once at the second signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._kill_now, number)

    def _kill_now(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.kill()
        shutil.rmtree(self._shared.folder, ignore_errors=True)
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _changed(self, worker: WorkerProcess, code: int | None) -> None:
        self._metrics.worker_up[worker.number].set(code is None)
        if code is not None:
            self._metrics.worker_ended[worker.number].inc()
            self._merged_metrics.worker_ended(worker.number)

    def _compile(self, loaded: LoadedConfig) -> CompiledConfig:
        return CompiledConfig(loaded, None, None)

    def _swap(self, compiled: CompiledConfig, _: Changes) -> None:
        self._compiled = compiled
        self._operator.use_tokens(compiled.operator_tokens)

    async def _distribute(self, loaded: LoadedConfig) -> Sequence[Problem]:
        return await reload_all(loaded, self._compiled.loaded, self._shared, self._workers)


async def _probe(worker: WorkerProcess) -> str | None:
    """Return what is wrong with a worker; None when it is ready."""
    if not worker.is_running:
        return "not running"
    if not worker.is_serving:
        return "starting"
    try:
        answer = await worker.client.request("/readyz", within=_PROBE_WITHIN)
        parts = answer.json()["parts"]
    except (NoAnswerError, KeyError, TypeError):
        return "does not answer"
    return None if answer.status == _OK else ", ".join(f"{part}: {state}" for part, state in parts.items())


def worker_count(wanted: int | None, loaded: LoadedConfig) -> int:
    """Return the number of workers; without a wish, one per core if the store can be shared.

    Raises `GatewayError` when several workers cannot share the SQLite store or the Unix socket.
    """
    sockets = loaded.config.server.listen.sockets
    can_share = not loaded.config.store.url.startswith("sqlite:") and not sockets
    if wanted is None:
        return _cores() if can_share else 1
    if wanted > 1 and sockets:
        raise GatewayError(
            f"{wanted} workers can't share {sockets[0]}: a Unix socket belongs to one process",
            hint="serve without --workers, or give server.listen a port",
        )
    if wanted > 1 and not can_share:
        raise GatewayError(
            f"{wanted} workers can't share {loaded.config.store.url}: a SQLite store belongs to one process",
            hint="serve without --workers, or give store.url a postgresql:// URL; docs/scaling.md says when",
        )
    return wanted


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SharedPort:
    """Reserves a port for the workers, so that no other process gets it while they restart.

    Each worker listens on its own socket with SO_REUSEPORT, and the kernel distributes the connections. When
    a worker ends, its socket closes, so no connection waits for a worker that does not exist.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The port. A configured 0 shows as the port that the system chose."""
        return int(self._sockets[0].getsockname()[1])

    async def reserve(self, listen: Address) -> None:
        """Reserve the port on every address of the host. Raises `OSError` when it is not available."""
        if listen.port:
            # Processes that share a port do not learn of each other. Another gateway of the same user would
            # silently get half of the requests, so the port is first bound without sharing.
            for alone in await bind(listen.host, listen.port):
                alone.close()
        self._sockets = await bind(listen.host, listen.port, shared=True)

    def close(self) -> None:
        """Release the port."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
