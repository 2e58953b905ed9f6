"""One attempt: an event becomes a POST, and what comes back becomes an outcome.

The status line is the answer. What follows it is read, up to a limit, so that the connection can be used
again, and can't change the outcome: an app that answered 200 has taken the event, however its reply ends.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from gatehouse import __version__
from gatehouse.delivery.address import open_socket
from gatehouse.delivery.outcome import Outcome, reason_for
from gatehouse.delivery.retry import parse_retry_after
from gatehouse.delivery.signing import signature
from gatehouse.envelope import encode
from gatehouse.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import OutcomeReason
    from gatehouse.event import Event

_USER_AGENT = f"Gatehouse/{__version__}"
#: How much of a reply is read, and for how long.
MAX_REPLY = 64 * 1024
MAX_REPLY_SECONDS = 15.0
#: Shorter than app servers keep idle connections for: they shall not close one that we are about to use.
_KEEP_ALIVE = 4.0
#: aiohttp warns of larger bodies in one piece.
_IN_ONE_PIECE = 512 * 1024

#: W3C Trace Context, version 00 and those that come after it.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

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


class Forwarder:
    """Attempts deliveries to one destination."""

    def __init__(
        self, destination: Destination, session: aiohttp.ClientSession, *, clock: Callable[[], float]
    ) -> None:
        self._destination = destination
        self._session = session
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=destination.timeout)

    async def attempt(self, event: Event, number: int) -> Outcome:
        """POST an event, for the `number`th time. Whatever goes wrong is in the outcome."""
        started = time.perf_counter()
        try:
            headers, body = self._request(event, number)
            status, retry_after = await self._post(headers, body)
        except Exception as error:  # noqa: BLE001 - one event that can't be sent must not stop the others
            return Outcome(self._reason(error, event), None, time.perf_counter() - started)
        return Outcome(reason_for(status), status, time.perf_counter() - started, retry_after)

    def _request(self, event: Event, number: int) -> tuple[dict[str, str], bytes]:
        destination = self._destination
        headers, body = encode(event, destination.format, allowed=destination.allowed)
        headers["user-agent"] = _USER_AGENT
        headers["gatehouse-attempt"] = str(number)
        headers["webhook-id"] = event.id
        if destination.keys:
            timestamp = int(self._clock())
            headers["webhook-timestamp"] = str(timestamp)
            headers["webhook-signature"] = signature(destination.keys, event.id, timestamp, body)
        if traceparent := _traceparent(event):
            headers["traceparent"] = traceparent
        return headers, body

    async def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, float | None]:
        response = await self._session.post(
            self._destination.url,
            data=body if len(body) <= _IN_ONE_PIECE else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout,
        )
        try:
            await _read_out(response)
        finally:
            # One that was read to its end has let go of its connection already; any other takes it down.
            response.close()
        return response.status, parse_retry_after(response.headers.get("Retry-After"), self._clock())

    def _reason(self, error: Exception, event: Event) -> OutcomeReason:
        known = (reason for kind, reason in _REASONS if isinstance(error, kind))
        reason: OutcomeReason = next(known, "unsendable")
        if reason == "unsendable":
            # Not the error's text: it may quote the event.
            fault = type(error).__name__
            name = self._destination.name
            get_logger().error("delivery.failed", event_id=event.id, destination=name, error=fault)
        return reason


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Read a reply to its end, or as far as is worth it."""
    content = response.content
    if content.at_eof():
        return
    left = MAX_REPLY
    with suppress(Exception):
        async with asyncio.timeout(MAX_REPLY_SECONDS):
            while left > 0 and (chunk := await content.read(left)):
                left -= len(chunk)


def _traceparent(event: Event) -> str | None:
    for name, value in event.headers:
        if name == "traceparent":
            return value if _TRACEPARENT.fullmatch(value) else None
    return None
