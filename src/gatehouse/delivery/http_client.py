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

from gatehouse.delivery.connection import Wire
from gatehouse.delivery.faults import LateError
from gatehouse.delivery.retry import parse_retry_after
from gatehouse.network.forbidden_addresses import open_socket
from gatehouse.network.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.delivery.connection import Wire
    from gatehouse.delivery.destination import Destination

#: How much of a reply is read, and for how long.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: What a URL says in headers: the host, and who we are where it says that.
_OF_THE_URL = ("Host", "Authorization")


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
        connector=aiohttp.TCPConnector(limit=0, resolver=Resolver(), socket_factory=open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


class Exchange:
    """Posts to one destination.

    There are no redirects, cookies, proxies or compression, so a request is the same few lines each time.
    """

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._url = destination.url
        self._pool = Pool(destination, session)
        self._clock = clock
        self._timeout = destination.timeout

    async def post(self, headers: Mapping[str, str], body: bytes, *, within: float | None = None) -> Reply:
        """Post, and wait for the reply. Raises what `faults` explains.

        `within`: how long its end may take, if the destination's timeout is not shorter. Without it the reply
        counts from its status on.
        """
        request = b"%b%b" % (self._head(headers, len(body)), body)
        seconds = self._timeout if within is None else min(within, self._timeout)
        until = asyncio.get_running_loop().time() + seconds
        wire = self._pool.take() or await self._pool.open(self._target, until)
        stays = False
        try:
            try:
                head, content = await wire.ask(request, until)
            except (TimeoutError, aiohttp.ServerDisconnectedError) as error:
                if not self._goes_again(wire, error):
                    raise
                wire.hang_up()
                wire = await self._pool.open(self._target, until)
                head, content = await wire.ask(request, until)
            answered = await _read_out(wire, content, until, whole=within is not None)
            stays = answered is not None and not head.should_close
        finally:
            if stays:
                self._pool.give_back(wire)
            else:
                wire.hang_up()
        said = head.headers
        retry_after = parse_retry_after(said.get("Retry-After"), self._clock())
        encoding = said.get("Content-Encoding")
        return Reply(head.code, retry_after, answered, said.get("Content-Type"), encoding)

    def _goes_again(self, wire: Wire, error: Exception) -> bool:
        """Tell whether a request goes over a new connection: the other side had closed the one that lay idle.

        It most likely never arrived. What did not end in silence is an outcome.
        """
        if not wire.is_used or not wire.is_silent:
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
    def _start(self) -> str:
        """The first lines of each request, up to those that differ."""
        lines = [f"POST {self._url.raw_path_qs} HTTP/1.1"]
        said = self._target.headers
        lines += [f"{name}: {said[name]}" for name in _OF_THE_URL if name in said]
        return "\r\n".join(lines)

    def _head(self, headers: Mapping[str, str], length: int) -> bytes:
        """Write a request's head. Raises `ValueError` for text that can't stand in one."""
        fields = [f"{name}: {value}" for name, value in headers.items()]
        if not "".join(fields).isprintable():
            # Lest one header become two.
            raise ValueError("a control character in a header")
        lines = (self._start, *fields, f"Content-Length: {length}\r\n\r\n")
        return "\r\n".join(lines).encode()


async def _read_out(
    wire: Wire, content: aiohttp.StreamReader | None, until: float, *, whole: bool
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
        wire.set_limit(min(until, asyncio.get_running_loop().time() + MAX_REPLY_SECONDS))
        while left > 0 and (chunk := await content.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        # At the limit it may have ended all the same; nothing is waited for to find out.
        return b"".join(chunks) if left > 0 or content.at_eof() else None
    except Exception as error:  # noqa: BLE001 - however a reply ends, its status line is the answer
        # The body has it still, which would be a circle; see `Wire.connection_lost`.
        error.__traceback__ = None
        if whole and isinstance(error, TimeoutError):
            raise LateError("the answer did not end in time") from None
        return None


#: Seconds. Shorter than app servers keep idle connections for: they shall not close one that we are about to
#: use.
_KEEP_ALIVE: Final = 4.0
#: Of its greatest age, how much a connection reaches: a random part between these.
_SPREAD: Final = (0.8, 1.0)
#: Seconds that a connection still gets to stand when its time is over.
_GRACE: Final = 0.002
_NO_LIMIT: Final = aiohttp.ClientTimeout()


class Pool:
    """Opens connections to a destination, as many as are asked for at a time, and keeps them for a while."""

    def __init__(self, destination: Destination, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._max_age = destination.max_connection_age
        #: The longest free one first.
        self._free: deque[Wire] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self) -> Wire | None:
        """Return a connection that was used before, if one is free."""
        now = asyncio.get_running_loop().time()
        while self._free:
            wire = self._free.pop()
            if wire.is_usable and wire.free_since > now - _KEEP_ALIVE and wire.expires > now:
                return wire
            wire.hang_up()
        return None

    async def open(self, target: aiohttp.ClientRequest, until: float) -> Wire:
        """Open a connection for this request. Raises aiohttp's errors of connecting, and `TimeoutError`."""
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                # Not at once: some event loops run timers before they see that a connection stands.
                timer = loop.call_at(until, lambda: limit.reschedule(loop.time() + _GRACE))
                try:
                    connection = await connector.connect(target, [], _NO_LIMIT)
                finally:
                    timer.cancel()
        except TimeoutError as error:
            raise LateError("no connection in time") from error
        # Not all of them at once: the destination's next address would get them in one moment.
        return Wire(connection, loop.time() + self._max_age * random.uniform(*_SPREAD))  # noqa: S311

    def give_back(self, wire: Wire) -> None:
        """Keep a connection, if it can be used again."""
        wire.finish()
        loop = asyncio.get_running_loop()
        wire.free_since = loop.time()
        if not wire.is_usable or wire.expires <= wire.free_since:
            wire.hang_up()
            return
        self._free.append(wire)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep)

    def clear(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop().hang_up()

    def _sweep(self) -> None:
        """Close what was not used for so long that the other side may close it."""
        loop = asyncio.get_running_loop()
        while self._free and self._free[0].free_since <= loop.time() - _KEEP_ALIVE:
            self._free.popleft().hang_up()
        self._sweeper = loop.call_later(_KEEP_ALIVE, self._sweep) if self._free else None
