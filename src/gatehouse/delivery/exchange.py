"""One POST and what came back: connections, limits, and what errors mean.

The status line is the answer. What follows it is read, up to a limit, so that the connection can be used
again, and can't change the outcome: an app that answered 200 has taken the event, however its reply ends.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from gatehouse.delivery.address import open_socket
from gatehouse.delivery.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import OutcomeReason

#: How much of a reply is read, and for how long.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: Shorter than app servers keep idle connections for: they shall not close one that we are about to use.
_KEEP_ALIVE = 4.0
#: aiohttp warns of larger bodies in one piece.
_IN_ONE_PIECE = 512 * 1024

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
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


def reason_of(error: Exception) -> OutcomeReason:
    """Say what an error of `Exchange.post` means; `unsendable` when it is no error of the network."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "unsendable")


class Exchange:
    """Posts to one destination."""

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._url = destination.url
        self._session = session
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=destination.timeout)

    async def post(self, headers: dict[str, str], body: bytes) -> Reply:
        """Post, and wait for the reply. Raises what `reason_of` explains."""
        response = await self._session.post(
            self._url,
            data=body if len(body) <= _IN_ONE_PIECE else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout,
        )
        try:
            answered = await _read_out(response)
        finally:
            # One that was read to its end has let go of its connection already; any other takes it down.
            response.close()
        said = response.headers
        retry_after = parse_retry_after(said.get("Retry-After"), self._clock())
        encoding = said.get("Content-Encoding")
        return Reply(response.status, retry_after, answered, said.get("Content-Type"), encoding)


async def _read_out(response: aiohttp.ClientResponse) -> bytes | None:
    """Read a reply to its end, or as far as is worth it."""
    content = response.content
    if content.at_eof():
        return b""
    chunks: list[bytes] = []
    left = MAX_REPLY
    with suppress(Exception):
        async with asyncio.timeout(MAX_REPLY_SECONDS):
            while left > 0 and (chunk := await content.read(left)):
                chunks.append(chunk)
                left -= len(chunk)
            # At the limit it may have ended all the same; nothing is waited for to find out.
            return b"".join(chunks) if left > 0 or content.at_eof() else None
    return None
