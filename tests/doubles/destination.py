"""A destination: a real HTTP server on a free port. It records requests, and its answers are scripted.

async with ScriptedDestination() as destination:
    destination.script(status(503, retry_after="1"), reset())   # for the first requests, then 200
    ...
    received = await destination.wait_for(3)
    assert [request.attempt for request in received] == [1, 2, 3]
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType

    from multidict import CIMultiDictProxy

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: The body of a request, for answers that depend on it.
BODY = web.RequestKey("body", bytes)


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes
    #: The time when the whole body had arrived (`time.monotonic()`).
    at: float

    @property
    def event_id(self) -> str:
        """The idempotency key."""
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return int(self.headers["gatehouse-attempt"])


class ScriptedDestination:
    """The server. Use it as an async context manager."""

    def __init__(self, *, port: int = 0) -> None:
        #: The requests, in the order in which their bodies arrived.
        self.requests: list[ReceivedRequest] = []
        #: The number of requests that are in progress now, and the highest number so far.
        self.open = 0
        self.most_open = 0
        self._port = port
        self._script: deque[Answer] = deque()
        self._default: Answer = status(200)
        self._arrived = asyncio.Condition()
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The URL to post to."""
        return f"http://127.0.0.1:{self.port}/events"

    @property
    def port(self) -> int:
        """The port. While the server is down, its last port."""
        return self._port

    def script(self, *answers: Answer) -> None:
        """Set the answers to the next requests, in the order in which their bodies arrive."""
        self._script.extend(answers)

    def always(self, answer: Answer) -> None:
        """Set the answer for requests after the end of the script."""
        self._default = answer

    async def wait_for(self, count: int, within: float = 10.0) -> list[ReceivedRequest]:
        """Wait until at least `count` requests have arrived. Returns all of them."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def start(self) -> None:
        """Listen on a free port, or after `stop` on the same port."""
        server = web.Server(self._serve)
        # Zero would mean an endless wait.
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop the server, so that connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = request[BODY] = await request.content.read()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        answer = self._script.popleft() if self._script else self._default
        async with self._arrived:
            received = ReceivedRequest(request.method, request.path, request.headers, body, time.monotonic())
            self.requests.append(received)
            self._arrived.notify_all()
        try:
            return await answer(request)  # type: ignore[arg-type]
        finally:
            self.open -= 1


def status(code: int, *, body: bytes = b"", retry_after: str | None = None, **headers: str) -> Answer:
    """Answer with a status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if retry_after is not None:
        named["Retry-After"] = retry_after

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=body, headers=named)

    return answer


def redirect(location: str, code: int = 302) -> Answer:
    """Answer with a redirect."""
    return status(code, location=location)


def after(seconds: float, then: Answer) -> Answer:
    """Answer after a delay."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request)

    return answer


def once(event: asyncio.Event, then: Answer) -> Answer:
    """Answer after the test has set an event."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await event.wait()
        return await then(request)

    return answer


def hang() -> Answer:
    """Never answer."""
    return after(3600, status(200))


def reset() -> Answer:
    """Reset the connection instead of answering."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


def raw(data: bytes) -> Answer:
    """Send these bytes instead of an answer, and close the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(data)
        request.transport.close()
        return web.Response()

    return answer


def endless(code: int = 200, *, chunk: bytes = b"x" * 4096, pause: float = 0.0) -> Answer:
    """Answer with an endless body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(chunk)
                await asyncio.sleep(pause)
        return response

    return answer
