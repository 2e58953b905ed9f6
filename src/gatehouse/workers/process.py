"""Runs one worker: starts its process, restarts it when it ends, and sends requests to its server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from gatehouse.errors import GatewayError
from gatehouse.operator.access import IDENTITY_HEADER
from gatehouse.operator.tokens import SUPERVISOR
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from gatehouse.operator.tokens import Identity
    from gatehouse.workers.worker import Worker

#: Seconds of backoff before a restart: the initial and the maximum value.
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 30.0
#: A worker that ran for this many seconds resets the backoff.
_STABLE_AFTER = 60.0
#: Seconds between two checks of a starting worker, and for the answer to one check.
_READY_INTERVAL, _READY_TIMEOUT = 0.05, 1.0
#: Seconds between two liveness checks, seconds for the answer, and how many checks in a row may fail. A
#: process monitor only sees the supervisor, which does not hang when a worker does.
_LIVENESS_INTERVAL, _LIVENESS_TIMEOUT, _MAX_FAILURES = 5.0, 5.0, 5
#: Seconds without a byte after which a stream is taken for broken. A heartbeat comes every 15 seconds.
_STREAM_SILENCE = 40.0
#: The base URL of the operator server; the socket selects the worker.
_BASE = "http://localhost"


class WorkerProcess:
    """Keeps one worker running."""

    def __init__(
        self, worker: Worker, options: Sequence[str], changed: Callable[[WorkerProcess, int | None], None]
    ) -> None:
        """`changed` gets None when the worker serves, and the exit code when it ends unexpectedly."""
        self.number = worker.number
        self.client = WorkerClient(worker.socket)
        #: How often the worker was started.
        self.starts = 0
        self._serving = asyncio.Event()
        self._command = (
            *(sys.executable, "-P", "-m", "gatehouse", "serve"),
            *("--worker", worker.argument),
            *options,
        )
        self._changed = changed
        self._process: Process | None = None
        self._running: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._first_exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None

    @property
    def is_serving(self) -> bool:
        """Whether the worker serves requests."""
        return self._serving.is_set()

    def start(self) -> None:
        """Start the worker and keep it running."""
        self._running = asyncio.create_task(self._run_until_stopped(), name=f"worker {self.number}")

    async def wait_until_serving(self) -> None:
        """Wait until the worker serves for the first time. Raises `GatewayError` when it ends instead."""
        serving = asyncio.create_task(self._serving.wait())
        first_exit = asyncio.ensure_future(self._first_exit)
        await asyncio.wait((serving, first_exit), return_when=asyncio.FIRST_COMPLETED)
        if not self._serving.is_set():
            serving.cancel()
            message = f"worker {self.number} ended before it served: {_describe_exit(first_exit.result())}"
            raise GatewayError(message, hint="the worker logged its error above")

    async def wait_until_settled(self, within: float) -> None:
        """Wait until a starting worker serves or has ended, for at most `within` seconds."""
        if self._starting is not None:
            await asyncio.wait([self._starting], timeout=within)

    def stop(self) -> None:
        """Stop the worker gracefully: it finishes its requests and attempts, and is not restarted."""
        self._stopping.set()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def wait_until_ended(self) -> None:
        """Wait until the worker has ended for good."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run_until_stopped(self) -> None:
        backoff = INITIAL_BACKOFF
        while True:
            started = time.monotonic()
            code = await self._run_once()
            if not self._first_exit.done():
                self._first_exit.set_result(code)
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= _STABLE_AFTER:
                backoff = INITIAL_BACKOFF
            get_logger().error(
                "worker.ended", worker=self.number, how=_describe_exit(code), starts_again_in_s=backoff
            )
            self._changed(self, code)
            if await self._stops_within(backoff):
                return
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _run_once(self) -> int:
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
        if self._stopping.is_set():
            self.stop()  # the stop was requested while the process started
        self._starting = asyncio.create_task(self._wait_until_ready())
        watching = asyncio.create_task(self._watch_health(self._starting))
        try:
            return await process.wait()
        finally:
            self._starting.cancel()
            watching.cancel()
            self._serving.clear()
            self._process = None

    async def _wait_until_ready(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(_READY_INTERVAL)
        self._serving.set()
        self._changed(self, None)

    async def _watch_health(self, starting: asyncio.Task[None]) -> None:
        """Kill the worker when it hangs."""
        await asyncio.wait([starting])
        failures = 0
        while failures < _MAX_FAILURES:
            await asyncio.sleep(_LIVENESS_INTERVAL)
            try:
                await self.client.request("/healthz", within=_LIVENESS_TIMEOUT)
                failures = 0
            except NoAnswerError:
                failures += 1
        get_logger().error("worker.hangs", worker=self.number)
        self.kill()

    async def _is_ready(self) -> bool:
        try:
            parts = (await self.client.request("/readyz", within=_READY_TIMEOUT)).json()["parts"]
        except (NoAnswerError, KeyError, TypeError):
            return False
        # The worker counts as ready even when the store is down: it answers providers itself.
        return bool(parts.get("ingest") == "ok")


def _describe_exit(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


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


class Blocks:
    """Cuts a stream into server-sent events, and looks at each byte of a long one only once."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the server-sent events that end within `data`."""
        buffer = self._buffer
        searched = max(0, len(buffer) - 1)
        buffer += data
        while (end := buffer.find(b"\n\n", searched)) >= 0:
            yield bytes(buffer[:end])
            del buffer[: end + 2]
            searched = 0


class WorkerClient:
    """Sends requests to the operator server of one worker."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        within: float = 15.0,
        identity: Identity = SUPERVISOR,
    ) -> WorkerAnswer:
        """Send a request on behalf of `identity`. Raises `NoAnswerError`."""
        url, timeout = URL(_BASE + path, encoded=True), aiohttp.ClientTimeout(total=within)
        headers = {IDENTITY_HEADER: identity.header}
        try:
            async with self._open_session().request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                content_type = answer.headers.get(hdrs.CONTENT_TYPE, "application/octet-stream")
                return WorkerAnswer(answer.status, await answer.read(), content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError("does not answer") from error

    async def blocks(self, path: str, *, after: str | None = None) -> AsyncIterator[bytes]:
        """Yield the server-sent events of a stream until it ends. Raises `NoAnswerError`."""
        headers = {IDENTITY_HEADER: SUPERVISOR.header} | ({} if after is None else {"Last-Event-ID": after})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STREAM_SILENCE, sock_read=_STREAM_SILENCE)
        url, blocks = URL(_BASE + path, encoded=True), Blocks()
        try:
            async with self._open_session().get(url, headers=headers, timeout=timeout) as answer:
                if answer.status != HTTPStatus.OK:
                    raise NoAnswerError("has no stream")
                async for data in answer.content.iter_any():
                    for block in blocks.feed(data):
                        yield block
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError("does not answer") from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Each request uses a new connection: an old one may belong to a worker that has ended.
            connector = aiohttp.UnixConnector(str(self._socket), force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
