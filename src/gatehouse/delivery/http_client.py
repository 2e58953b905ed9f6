"""One POST to a destination and its reply, over a pool of kept connections.

The status line is the answer. The rest of the reply is read, up to a limit, so that the connection can be
used again. It can't change the outcome: an app that answered 200 has taken the event, however its reply
ends.
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
    from collections.abc import Callable, Mapping

    from gatehouse.delivery.connection import DestinationConnection
    from gatehouse.delivery.destination import Destination

#: How much of a reply is read, and for how long.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: What a URL says in headers: the host, and who we are where it says that.
_URL_HEADERS = ("Host", "Authorization")


class Reply(NamedTuple):
    """What a destination answered."""

    status: int
    #: What `Retry-After` asked for, in seconds from the reply.
    retry_after: float | None
    #: The body, when it ended within the limits; otherwise None. Still in the encoding it came in.
    body: bytes | None
    content_type: str | None = None
    #: The `Content-Encoding`, though none was asked for.
    encoding: str | None = None


def open_session() -> aiohttp.ClientSession:
    """Open the session that all destinations share: no cookies, no proxies, nothing but connections."""
    return aiohttp.ClientSession(
        # Lanes bound how many attempts run at once; a limit here would let one destination hold up another.
        connector=aiohttp.TCPConnector(limit=0, resolver=AiohttpResolver(), socket_factory=open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


class HttpClient:
    """Posts to one destination.

    There are no redirects, cookies, proxies or compression, so a request is the same few lines each time.
    """

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._url = destination.url
        self._pool = ConnectionPool(destination, session)
        self._clock = clock
        self._timeout = destination.timeout

    async def post(self, headers: Mapping[str, str], body: bytes, *, within: float | None = None) -> Reply:
        """Post, and wait for the reply. Raises what `faults` explains.

        `within`: how long its end may take, if the destination's timeout is not shorter. Without it the reply
        counts from its status on.
        """
        request = b"%b%b" % (self._head(headers, len(body)), body)
        seconds = self._timeout if within is None else min(within, self._timeout)
        deadline = asyncio.get_running_loop().time() + seconds
        connection = self._pool.acquire() or await self._pool.open(self._target, deadline)
        reusable = False
        try:
            try:
                head, content = await connection.send(request, deadline)
            except (TimeoutError, aiohttp.ServerDisconnectedError) as error:
                if not self._may_resend(connection, error):
                    raise
                connection.close()
                connection = await self._pool.open(self._target, deadline)
                head, content = await connection.send(request, deadline)
            reply_body = await _read_body(connection, content, deadline, whole=within is not None)
            reusable = reply_body is not None and not head.should_close
        finally:
            if reusable:
                self._pool.release(connection)
            else:
                connection.close()
        reply_headers = head.headers
        retry_after = parse_retry_after(reply_headers.get("Retry-After"), self._clock())
        encoding = reply_headers.get("Content-Encoding")
        return Reply(head.code, retry_after, reply_body, reply_headers.get("Content-Type"), encoding)

    def _may_resend(self, connection: DestinationConnection, error: Exception) -> bool:
        """Tell whether a request goes over a new connection: the other side had closed the one that lay idle.

        It most likely never arrived. What did not end in silence is an outcome.
        """
        if not connection.is_used or not connection.is_silent:
            return False
        if isinstance(error, TimeoutError):
            # Nobody may be there any more, at the end of the others neither.
            self._pool.clear()
            return False
        return True

    @cached_property
    def _target(self) -> aiohttp.ClientRequest:
        """What the connector wants to know of a request: the same for each. Raises `aiohttp.InvalidURL`."""
        return aiohttp.ClientRequest("POST", self._url, loop=asyncio.get_running_loop())

    @cached_property
    def _first_lines(self) -> str:
        """The first lines of each request, up to those that differ."""
        lines = [f"POST {self._url.raw_path_qs} HTTP/1.1"]
        target_headers = self._target.headers
        lines += [f"{name}: {target_headers[name]}" for name in _URL_HEADERS if name in target_headers]
        return "\r\n".join(lines)

    def _head(self, headers: Mapping[str, str], length: int) -> bytes:
        """Write a request's head. Raises `ValueError` for text that can't stand in one."""
        fields = [f"{name}: {value}" for name, value in headers.items()]
        if not "".join(fields).isprintable():
            # Lest one header become two.
            raise ValueError("a control character in a header")
        lines = (self._first_lines, *fields, f"Content-Length: {length}\r\n\r\n")
        return "\r\n".join(lines).encode()


async def _read_body(
    connection: DestinationConnection, content: aiohttp.StreamReader | None, deadline: float, *, whole: bool
) -> bytes | None:
    """Read a reply to its end, or as far as is worth it. `whole`: raises `TimeoutError` if it has no end."""
    if content is None:
        return None
    if content.at_eof():
        return b""
    chunks: list[bytes] = []
    left = MAX_REPLY
    try:
        if content.is_eof():
            # All of it came with the head, as most do: there is nothing to wait for.
            body = content.read_nowait(left)
            return body if content.at_eof() else None
        connection.set_deadline(min(deadline, asyncio.get_running_loop().time() + MAX_REPLY_SECONDS))
        while left > 0 and (chunk := await content.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        # At the limit it may have ended all the same; nothing is waited for to find out.
        return b"".join(chunks) if left > 0 or content.at_eof() else None
    except Exception as error:  # noqa: BLE001 - however a reply ends, its status line is the answer
        # The body has it still, which would be a circle; see `Wire.connection_lost`.
        error.__traceback__ = None
        if whole and isinstance(error, TimeoutError):
            raise DeadlineError("the answer did not end in time") from None
        return None


#: Seconds. Shorter than app servers keep idle connections for: they shall not close one that we are about to
#: use.
_KEEP_ALIVE: Final = 4.0
#: Of its greatest age, how much a connection reaches: a random part between these.
_AGE_SPREAD: Final = (0.8, 1.0)
#: Seconds that a connection still gets to stand when its time is over.
_CONNECT_GRACE: Final = 0.002
_NO_LIMIT: Final = aiohttp.ClientTimeout()


class ConnectionPool:
    """Opens connections to a destination, as many as are asked for at a time, and keeps them for a while."""

    def __init__(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._max_age = destination.max_connection_age
        #: The longest free one first.
        self._idle: deque[DestinationConnection] = deque()
        self._sweep_timer: asyncio.TimerHandle | None = None

    def acquire(self) -> DestinationConnection | None:
        """Return a connection that was used before, if one is free."""
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
        """Open a connection for this request. Raises aiohttp's errors of connecting, and `TimeoutError`."""
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                # Not at once: some event loops run timers before they see that a connection stands.
                timer = loop.call_at(deadline, lambda: limit.reschedule(loop.time() + _CONNECT_GRACE))
                try:
                    opened = await connector.connect(target, [], _NO_LIMIT)
                finally:
                    timer.cancel()
        except TimeoutError as error:
            raise DeadlineError("no connection in time") from error
        # Not all of them at once: the destination's next address would get them in one moment.
        return DestinationConnection(opened, loop.time() + self._max_age * random.uniform(*_AGE_SPREAD))  # noqa: S311

    def release(self, connection: DestinationConnection) -> None:
        """Keep a connection, if it can be used again."""
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
        """Close the connections that are free."""
        while self._idle:
            self._idle.pop().close()

    def _sweep(self) -> None:
        """Close what was not used for so long that the other side may close it."""
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0].idle_since <= loop.time() - _KEEP_ALIVE:
            self._idle.popleft().close()
        self._sweep_timer = loop.call_later(_KEEP_ALIVE, self._sweep) if self._idle else None
