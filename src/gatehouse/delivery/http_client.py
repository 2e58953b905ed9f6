"""Sends one POST to a destination and reads its reply, over a pool of kept connections.

The status line decides the outcome. The rest of the reply is read up to a limit, so that the connection can
be reused. It can't change the outcome: an app that replied 200 has taken the event, however its reply ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp

from gatehouse.delivery.connection import DestinationConnection
from gatehouse.delivery.faults import DeadlineError
from gatehouse.delivery.retry import parse_retry_after
from gatehouse.network.forbidden_addresses import open_socket
from gatehouse.network.resolver import AiohttpResolver

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.delivery.connection import DestinationConnection
    from gatehouse.delivery.destination import Destination

#: The limits for reading a reply, in bytes and in seconds.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: Headers that come from the URL: the host, and credentials if the URL contains them.
_URL_HEADERS = ("Host", "Authorization")


class Reply(NamedTuple):
    """The reply of a destination."""

    status: int
    #: The value of `Retry-After`, in seconds from the reply.
    retry_after: float | None
    #: The body if it ended within the limits, otherwise None. It is not decompressed.
    body: bytes | None
    content_type: str | None = None
    #: The `Content-Encoding`, although the request asked for none.
    encoding: str | None = None
    #: What was read of a body that did not end within the limits, in pieces.
    partial: Sequence[bytes] = ()


def open_session() -> aiohttp.ClientSession:
    """Open the session that all destinations share, without cookies and proxies."""
    return aiohttp.ClientSession(
        # Lanes limit their own attempts. A limit here would let one destination delay another.
        connector=aiohttp.TCPConnector(limit=0, resolver=AiohttpResolver(), socket_factory=open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


class HttpClient:
    """Posts to one destination.

    It needs no redirects, cookies, proxies or compression, so it builds each request from the same few lines.
    """

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._url = destination.url
        self._pool = ConnectionPool(destination, session)
        self._clock = clock
        self._timeout = destination.timeout
        self._added = destination.added_headers
        self._tls = destination.tls
        self._proxy = destination.proxy
        self._session = session

    async def post(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        within: float | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """POST and wait for the reply. Raises the errors that `faults` explains.

        `within` is the time limit for the whole reply in seconds, if it is shorter than the destination's
        timeout. Without it, the reply counts as soon as its status arrives. `deadline`, in the event loop's
        time, replaces the time limit.
        """
        request = b"%b%b" % (self._head(headers, len(body)), body)
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._seconds(within)
        connection = self._pool.acquire() or await self._open(deadline)
        reusable = False
        chunks: list[bytes] = []
        try:
            try:
                head, content = await connection.send(request, deadline)
            except (TimeoutError, aiohttp.ServerDisconnectedError) as error:
                if not self._may_resend(connection, error):
                    raise
                connection.close()
                connection = await self._open(deadline)
                head, content = await connection.send(request, deadline)
            reply_body = await _read_body(connection, content, deadline, chunks, whole=within is not None)
            reusable = reply_body is not None and not head.should_close
        finally:
            if reusable:
                self._pool.release(connection)
            else:
                connection.close()
        reply_headers = head.headers
        retry_after = parse_retry_after(reply_headers.get("Retry-After"), self._clock())
        encoding = reply_headers.get("Content-Encoding")
        content_type = reply_headers.get("Content-Type")
        if reply_body is None:
            return Reply(head.code, retry_after, None, content_type, encoding, chunks)
        return Reply(head.code, retry_after, reply_body, content_type, encoding)

    def _seconds(self, within: float | None) -> float:
        return self._timeout if within is None else min(within, self._timeout)

    async def _open(self, deadline: float) -> DestinationConnection:
        if self._tls is None:
            return await self._pool.open(self._target, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                context = await self._tls.context()
        except TimeoutError as error:
            raise DeadlineError("the files of tls could not be read in time") from error
        return await self._pool.open(self._new_target(context), deadline)

    def _new_target(self, tls: ssl.SSLContext | bool) -> aiohttp.ClientRequest:
        return aiohttp.ClientRequest(
            "POST",
            self._url,
            loop=asyncio.get_running_loop(),
            ssl=tls,
            proxy=self._proxy,
            session=self._session,
        )

    def _may_resend(self, connection: DestinationConnection, error: Exception) -> bool:
        """Return whether to resend over a new connection, because the destination had closed the idle one.

        In that case the request most likely never arrived. Any other error becomes the outcome.
        """
        if not connection.is_used or not connection.is_silent:
            return False
        if isinstance(error, TimeoutError):
            # The destination may be gone, and then the other idle connections are dead too.
            self._pool.clear()
            return False
        return True

    @cached_property
    def _target(self) -> aiohttp.ClientRequest:
        """The request that the connector needs, the same each time. Raises `aiohttp.InvalidURL`."""
        return self._new_target(tls=True)

    @cached_property
    def _first_lines(self) -> str:
        """The first lines of each request, which are always the same."""
        path = self._url.raw_path_qs
        if self._proxy is not None and self._url.scheme == "http":
            # A proxy gets the whole URL (RFC 9112, section 3.2.2).
            path = str(self._url.with_user(None).with_fragment(None))
        lines = [f"POST {path} HTTP/1.1"]
        target_headers = self._target.headers
        lines += [f"{name}: {target_headers[name]}" for name in _URL_HEADERS if name in target_headers]
        lines += [f"{name}: {value}" for name, value in self._added]
        return "\r\n".join(lines)

    def _head(self, headers: Mapping[str, str], length: int) -> bytes:
        """Encode the head of a request. Raises `ValueError` for text that is not allowed in a header."""
        fields = [f"{name}: {value}" for name, value in headers.items()]
        if not "".join(fields).isprintable():
            # A line break would let one header become two.
            raise ValueError("a control character in a header")
        lines = (self._first_lines, *fields, f"Content-Length: {length}\r\n\r\n")
        return "\r\n".join(lines).encode()


async def _read_body(
    connection: DestinationConnection,
    content: aiohttp.StreamReader | None,
    deadline: float,
    chunks: list[bytes],
    *,
    whole: bool,
) -> bytes | None:
    """Read the body up to the limits. If it must be `whole`, raises `TimeoutError` when it does not end.

    Without an end, returns None, and `chunks` contains what was read.
    """
    if content is None:
        return None
    if content.at_eof():
        return b""
    left = MAX_REPLY
    try:
        if content.is_eof():
            # The usual case: all of it arrived with the head, so nothing is awaited.
            body = content.read_nowait(left)
            if content.at_eof():
                return body
            chunks.append(body)
            return None
        connection.set_deadline(min(deadline, asyncio.get_running_loop().time() + MAX_REPLY_SECONDS))
        while left > 0 and (chunk := await content.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        # At the limit the body may be complete. Nothing more is awaited to find out.
        return b"".join(chunks) if left > 0 or content.at_eof() else None
    except Exception as error:  # noqa: BLE001 - the status line decides, however the reply ends
        # The stream still refers to the error. This avoids a reference cycle; see
        # `DestinationConnection.connection_lost`.
        error.__traceback__ = None
        if whole and isinstance(error, TimeoutError):
            raise DeadlineError("the reply did not end in time") from None
        return None


#: Seconds. Shorter than the keep-alive time of app servers, so that they do not close a connection in use.
_KEEP_ALIVE: Final = 4.0
#: The range for the random part of its maximum age that a connection is used for.
_AGE_SPREAD: Final = (0.8, 1.0)
#: Seconds of grace for a connection attempt whose time is over.
_CONNECT_GRACE: Final = 0.002
_NO_LIMIT: Final = aiohttp.ClientTimeout()


class ConnectionPool:
    """Opens as many connections to a destination as are needed, and keeps idle ones for a while."""

    def __init__(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._max_age = destination.max_connection_age
        #: The connection that is idle longest comes first.
        self._idle: deque[DestinationConnection] = deque()
        self._sweep_timer: asyncio.TimerHandle | None = None

    def acquire(self) -> DestinationConnection | None:
        """Return an idle connection that is still usable, or None."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if (
                connection.is_usable
                and connection.idle_since > now - _KEEP_ALIVE
                and connection.expires > now
            ):
                return connection
            connection.close()
        return None

    async def open(self, target: aiohttp.ClientRequest, deadline: float) -> DestinationConnection:
        """Open a connection for this request. Raises aiohttp's connection errors and `TimeoutError`."""
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                # Delayed a little, because some event loops run timers before they notice a new connection.
                timer = loop.call_at(deadline, lambda: limit.reschedule(loop.time() + _CONNECT_GRACE))
                try:
                    opened = await connector.connect(target, [], _NO_LIMIT)
                finally:
                    timer.cancel()
        except TimeoutError as error:
            raise DeadlineError("no connection in time") from error
        # The ages vary, so that connections do not all move to a destination's new address at once.
        return DestinationConnection(opened, loop.time() + self._max_age * random.uniform(*_AGE_SPREAD))  # noqa: S311

    def release(self, connection: DestinationConnection) -> None:
        """Keep a connection if it can be reused. Otherwise close it."""
        connection.finish()
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        if not connection.is_usable or connection.expires <= connection.idle_since:
            connection.close()
            return
        self._idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(_KEEP_ALIVE, self._sweep)

    def clear(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _sweep(self) -> None:
        """Close connections that were idle for so long that the destination may close them."""
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0].idle_since <= loop.time() - _KEEP_ALIVE:
            self._idle.popleft().close()
        self._sweep_timer = loop.call_later(_KEEP_ALIVE, self._sweep) if self._idle else None
