"""One POST and what came back: connections, limits, and what errors mean.

The status line is the answer. What follows it is read, up to a limit, so that the connection can be used
again, and can't change the outcome: an app that answered 200 has taken the event, however its reply ends.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from gatehouse.delivery.address import open_socket
from gatehouse.delivery.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import OutcomeReason

#: How much of a reply is read, and for how long.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: Shorter than app servers keep idle connections for: they shall not close one that we are about to use.
_KEEP_ALIVE = 4.0
#: What a URL says in headers: the host, and who we are where it says that.
_OF_THE_URL = ("Host", "Authorization")

#: Errors by what they mean; the first that fits counts.
_REASONS: tuple[tuple[type[Exception], OutcomeReason], ...] = (
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientSSLError, "tls"),
    (aiohttp.ServerFingerprintMismatch, "tls"),
    (aiohttp.ClientConnectorError, "connect"),
    (aiohttp.InvalidURL, "unsendable"),
    (aiohttp.ClientConnectionError, "disconnected"),
    (aiohttp.ClientError, "invalid_reply"),
    (HttpProcessingError, "invalid_reply"),
    (OSError, "connect"),
)


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
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE, socket_factory=open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def reason_of(error: Exception) -> OutcomeReason:
    """Say what an error of `Exchange.post` means; `unsendable` when it is no error of the network."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "unsendable")


class Exchange:
    """Posts to one destination.

    It has its connections from the session's connector, and aiohttp's parser reads the replies. What lies
    between, a `ClientRequest`, a task that writes it and a `ClientResponse` for each POST, is left out: for
    one POST to one URL without redirects, cookies, proxies and compression it made up an eighth of an event's
    cost.
    """

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._url = destination.url
        self._session = session
        self._clock = clock
        self._timeout = destination.timeout
        #: For the connector: how long it may take to connect, in all.
        self._connecting = aiohttp.ClientTimeout(connect=destination.timeout)

    async def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post, and wait for the reply. Raises what `reason_of` explains."""
        request = b"%b%b" % (self._head(headers, len(body)), body)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        connection, protocol = await self._connect()
        timer = loop.call_at(until, _time_out, protocol)
        try:
            head, content = await _ask(protocol, request)
            answered = await _read_out(content, until)
            if answered is not None and not _is_writing(protocol):
                connection.release()
        finally:
            timer.cancel()
            _hang_up(connection)
        said = head.headers
        retry_after = parse_retry_after(said.get("Retry-After"), self._clock())
        encoding = said.get("Content-Encoding")
        return Reply(head.code, retry_after, answered, said.get("Content-Type"), encoding)

    async def _connect(self) -> tuple[Connection, ResponseHandler]:
        connector = self._session.connector
        assert connector is not None, "the session is closed"  # noqa: S101
        while True:
            connection = await connector.connect(self._target, [], self._connecting)
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - a connection has one until it is let go of
            if not len(protocol):
                return connection, protocol
            # An answer that nobody asked for came while it was idle. It is not the answer to what comes next.
            connection.close()

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


def _time_out(protocol: ResponseHandler) -> None:
    protocol.set_exception(TimeoutError())


async def _ask(protocol: ResponseHandler, request: bytes) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """Send a request, and wait for the head of the answer to it."""
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    if protocol.transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.transport.write(request)
    while True:
        head, content = await protocol.read()
        if not _is_interim(head.code):
            return head, content


def _is_interim(status: int) -> bool:
    return status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS


def _hang_up(connection: Connection) -> None:
    """Take a connection down, unless it was released: to be used again, if what was said on it allows."""
    protocol = connection.protocol
    if protocol is not None and _is_writing(protocol):
        # Closing it would wait until the other side has taken the rest, which it may never do.
        protocol.abort()
    connection.close()


def _is_writing(protocol: ResponseHandler) -> bool:
    """Tell whether the answer came before all of the request was sent."""
    return protocol.transport is not None and protocol.transport.get_write_buffer_size() > 0


async def _read_out(content: aiohttp.StreamReader, until: float) -> bytes | None:
    """Read a reply to its end, or as far as is worth it."""
    if content.at_eof():
        return b""
    chunks: list[bytes] = []
    left = MAX_REPLY
    with suppress(Exception):
        if content.is_eof():
            # All of it came with the head, as most do: there is nothing to wait for.
            body = content.read_nowait(left)
            return body if content.at_eof() else None
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(min(until, now + MAX_REPLY_SECONDS)):
            while left > 0 and (chunk := await content.read(left)):
                chunks.append(chunk)
                left -= len(chunk)
            # At the limit it may have ended all the same; nothing is waited for to find out.
            return b"".join(chunks) if left > 0 or content.at_eof() else None
    return None
