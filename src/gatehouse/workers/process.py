"""Runs one worker: starts its process, restarts it when it ends, and sends requests to its server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from gatehouse.errors import GatewayError
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gatehouse.workers.worker import Worker

#: Seconds of backoff before a restart: the initial and the maximum value.
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 30.0
#: A worker that ran for this many seconds resets the backoff.
_WELL = 60.0
#: Seconds between two checks of a starting worker, and for the answer to one check.
_LOOK, _LOOK_WITHIN = 0.05, 1.0
#: Seconds between two liveness checks, seconds for the answer, and how many checks in a row may fail. A
#: process monitor only sees the supervisor, which does not hang when a worker does.
_ALIVE, _ALIVE_WITHIN, _SILENT = 5.0, 5.0, 5


class WorkerProcess:
    """Keeps one worker running."""

    def __init__(
        self, worker: Worker, options: Sequence[str], changed: Callable[[WorkerProcess, int | None], None]
    ) -> None:
        """`changed` is called when the worker serves (None), and when it ends unexpectedly (its
        exit code).
        """
        self.number = worker.number
        self.client = WorkerClient(worker.socket)
        #: How often the worker was started.
        self.starts = 0
        self._serves = asyncio.Event()
        self._command = (
            *(sys.executable, "-P", "-m", "gatehouse", "serve"),
            *("--worker", worker.argument),
            *options,
        )
        self._changed = changed
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._first_end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None

    @property
    def is_serving(self) -> bool:
        """Whether the worker serves requests."""
        return self._serves.is_set()

    def start(self) -> None:
        """Start the worker and keep it running."""
        self._keeping = asyncio.create_task(self._keep(), name=f"worker {self.number}")

    async def wait_until_serving(self) -> None:
        """Wait until the worker serves for the first time. Raises `GatewayError` when it ends instead."""
        serving = asyncio.create_task(self._serves.wait())
        first_end = asyncio.ensure_future(self._first_end)
        await asyncio.wait((serving, first_end), return_when=asyncio.FIRST_COMPLETED)
        if not self._serves.is_set():
            serving.cancel()
            message = f"worker {self.number} ended before it served: {_describe_exit(first_end.result())}"
            raise GatewayError(message, hint="its own error is above")

    async def wait_until_settled(self, within: float) -> None:
        """Wait until a starting worker serves or has ended, for at most `within` seconds."""
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=within)

    def leave(self) -> None:
        """Stop the worker gracefully: it finishes its requests and attempts, and is not restarted."""
        self._leaving.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def wait_until_ended(self) -> None:
        """Wait until the worker has ended for good."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    async def _keep(self) -> None:
        rest = INITIAL_BACKOFF
        while True:
            started = time.monotonic()
            code = await self._run()
            if not self._first_end.done():
                self._first_end.set_result(code)
            if self._leaving.is_set():
                return
            if time.monotonic() - started >= _WELL:
                rest = INITIAL_BACKOFF
            get_logger().error(
                "worker.ended", worker=self.number, how=_describe_exit(code), starts_again_in_s=rest
            )
            self._changed(self, code)
            if await self._leaves_within(rest):
                return
            rest = min(rest * 2, MAX_BACKOFF)

    async def _leaves_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), seconds)
        return self._leaving.is_set()

    async def _run(self) -> int:
        """Run the process once. Return its exit code."""
        try:
            # The worker stops when its stdin closes, also when the supervisor dies. The new session makes
            # sure that Ctrl-C reaches the worker only through the supervisor.
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            return error.errno or 1
        self.starts += 1
        if self._leaving.is_set():
            self.leave()  # the stop was requested while the process started
        self._looking = asyncio.create_task(self._look_until_it_serves())
        watching = asyncio.create_task(self._watch(self._looking))
        try:
            return await process.wait()
        finally:
            self._looking.cancel()
            watching.cancel()
            self._serves.clear()
            self._process = None

    async def _look_until_it_serves(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(_LOOK)
        self._serves.set()
        self._changed(self, None)

    async def _watch(self, looking: asyncio.Task[None]) -> None:
        """Kill the worker when it hangs."""
        await asyncio.wait([looking])
        silent = 0
        while silent < _SILENT:
            await asyncio.sleep(_ALIVE)
            try:
                await self.client.request("/healthz", within=_ALIVE_WITHIN)
                silent = 0
            except NoAnswerError:
                silent += 1
        get_logger().error("worker.hangs", worker=self.number)
        self.kill()

    async def _is_ready(self) -> bool:
        try:
            parts = (await self.client.request("/readyz", within=_LOOK_WITHIN)).json()["parts"]
        except (NoAnswerError, KeyError, TypeError):
            return False
        # The worker counts as ready even when the store is down: it answers providers itself.
        return bool(parts.get("ingest") == "ok")


def _describe_exit(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


#: The base URL of the operator server; the socket selects the worker.
_BASE = "http://localhost"


class NoAnswerError(GatewayError):
    """A worker does not answer: it is not running, or it hangs."""


class WorkerAnswer(NamedTuple):
    """The answer of a worker."""

    status: int
    body: bytes
    content_type: str

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Decode the body. Raises `NoAnswerError` when it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.MsgspecError as error:
            raise NoAnswerError("the answer is no JSON") from error


class WorkerClient:
    """Sends requests to the operator server of one worker."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, path: str, *, method: str = "GET", body: bytes | None = None, within: float = 15.0
    ) -> WorkerAnswer:
        """Send a request. Raises `NoAnswerError`."""
        if self._session is None:
            # Each request uses a new connection: an old one may belong to a worker that has ended.
            connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        timeout = aiohttp.ClientTimeout(total=within)
        try:
            async with self._session.request(
                method, URL(_BASE + path, encoded=True), data=body, timeout=timeout, allow_redirects=False
            ) as answer:
                content_type = answer.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream")
                return WorkerAnswer(answer.status, await answer.read(), content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError("does not answer") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
