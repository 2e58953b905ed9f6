"""Reads request bodies, within one memory limit for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from aiohttp import HttpVersion11, hdrs
from aiohttp.http_exceptions import HttpProcessingError

from gatehouse.errors import (
    BodyTooLargeError,
    MalformedRequestError,
    RequestTimeoutError,
    UnavailableError,
    UnsupportedEncodingError,
)
from gatehouse.ingest.awake_clock import AwakeClock
from gatehouse.ingest.http1 import EvictedError
from gatehouse.language.codings import MAX_CODINGS, codings_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from gatehouse.ingest.connection import InboundRequest

#: Bytes of all bodies together. A body counts from its arrival until its request is answered.
MAX_BYTES: Final = 64 * 1024 * 1024


class Bodies:
    """Reads bodies and counts their bytes. Only bytes that have arrived count, not the announced length.

    When the limit is reached, the request that has been sending longest is refused. Genuine requests arrive
    within milliseconds, so a flood of slow senders displaces itself.

    A body counts until the caller releases it with `held -= len(body)`. A call that raises holds nothing.
    """

    def __init__(self, budget: int = MAX_BYTES, clock: AwakeClock | None = None) -> None:
        self._budget = budget
        #: The clock for the deadlines of bodies.
        self.clock = clock or AwakeClock()
        #: Bytes of the bodies in memory.
        self.held = 0
        #: Bodies that are still arriving, the oldest first.
        self._incomplete: dict[Body, None] = {}

    def read_complete(self, http: InboundRequest, limit: int, codings: Sequence[str] = ()) -> bytes | None:
        """Return a body of at most `limit` bytes that arrived with its head; None when more is to come.

        `codings` are the values of Content-Encoding that the source decodes.
        Raises a `RequestRejectedError` that says why the body is refused.
        """
        headers, content = http.head.headers, http.content
        if hdrs.CONTENT_ENCODING in headers:
            check_codings(headers.getall(hdrs.CONTENT_ENCODING), codings)
        if not content.is_eof():
            return None
        body = content.read_nowait()
        size = len(body)
        if size > limit:
            raise _too_large(limit)
        if self.held + size > self._budget:
            self._evict_for(size)
        self.held += size
        return body

    def _evict_for(self, size: int) -> None:
        with self.body() as body:
            self.take(body, size)

    async def read_arriving(self, http: InboundRequest, limit: int, deadline: float) -> bytes:
        """Read a body that is still arriving: at most `limit` bytes, within `deadline` seconds.

        Raises the same errors as `read_complete`.
        """
        with self.body() as body:
            whole = await body.read(http, limit, deadline)
            # From now on the caller releases these bytes.
            body.size = 0
            return whole

    def body(self) -> Body:
        """Return a context manager for a body that is arriving. It releases the bytes at the end."""
        return Body(self)

    def take(self, body: Body, size: int) -> None:
        """Count bytes that have arrived. Raises `UnavailableError` when no room can be made for them."""
        self.held += size
        body.size += size
        while self.held > self._budget:
            oldest = next((one for one in self._incomplete if one.size), None)
            if oldest is None or oldest is body:
                raise _overloaded()
            oldest.evict()

    def release(self, body: Body) -> None:
        """Release the bytes of a body."""
        self.held -= body.size
        body.size = 0

    def add_incomplete(self, body: Body) -> None:
        """Allow this body to be evicted."""
        self._incomplete[body] = None

    def remove_incomplete(self, body: Body) -> None:
        """Protect this body from eviction: it is complete or refused."""
        self._incomplete.pop(body, None)


class Body:
    """The body of one request."""

    __slots__ = ("_bodies", "_chunks", "_is_evicted", "_timeout", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        #: Bytes that have arrived.
        self.size = 0
        self._chunks: list[bytes] = []
        self._timeout: asyncio.Timeout | None = None
        self._is_evicted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.release(self)

    def evict(self) -> None:
        """Stop reading and answer 503, to make room for other bodies."""
        self._is_evicted = True
        self._stop_reading()
        self._bodies.remove_incomplete(self)
        self._bodies.release(self)
        # Free the memory now: under a flood, the reading task runs only after many other bodies have
        # arrived.
        self._chunks.clear()

    def _stop_reading(self) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def read(self, http: InboundRequest, limit: int, deadline: float) -> bytes:
        """Read the whole body: at most `limit` bytes, within `deadline` seconds.

        Raises a `RequestRejectedError` that says why the body is refused.
        """
        if (http.content_length or 0) > limit:
            raise _too_large(limit)
        # A slow sender must not occupy a slot.
        http.connection.release_slot()
        try:
            async with asyncio.timeout(None) as self._timeout:
                timer = self._bodies.clock.call_later(deadline, self._stop_reading)
                self._bodies.add_incomplete(self)
                _send_continue(http)
                return await self._read_chunks(http, limit)
        except TimeoutError as error:
            if self._is_evicted:
                raise _overloaded() from error
            raise RequestTimeoutError("the body took too long to arrive") from error
        except (aiohttp.ClientPayloadError, HttpProcessingError, ConnectionError) as error:
            # Drop the traceback: the stream still holds the exception, so the two would form a reference
            # cycle.
            cause = error.with_traceback(None)
            if isinstance(error, EvictedError):
                raise _overloaded() from cause
            raise MalformedRequestError("the body ended before its announced end") from cause
        finally:
            timer.cancel()
            self._bodies.remove_incomplete(self)

    async def _read_chunks(self, http: InboundRequest, limit: int) -> bytes:
        # No variable here may hold a chunk: it would stay in memory until the next one arrives.
        while await self._read_chunk(http, limit):
            pass
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    async def _read_chunk(self, http: InboundRequest, limit: int) -> bool:
        chunk = await http.content.readany()
        if self._is_evicted:
            raise TimeoutError
        if self.size + len(chunk) > limit:
            raise _too_large(limit)
        self._bodies.take(self, len(chunk))
        self._chunks.append(chunk)
        return bool(chunk)


def check_codings(values: Sequence[str], accepted: Sequence[str]) -> None:
    """Refuse compressed bodies: the signature covers the bytes as they were sent.

    `accepted` are the codings that the source decodes.
    """
    codings = codings_of(values)
    if not codings or (len(codings) <= MAX_CODINGS and all(coding in accepted for coding in codings)):
        return
    if not accepted:
        raise UnsupportedEncodingError("send the body without Content-Encoding")
    raise UnsupportedEncodingError(f"send the body with one Content-Encoding of: {', '.join(accepted)}")


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is longer than {limit} bytes")


def _overloaded() -> UnavailableError:
    return UnavailableError("overloaded; send again later", reason="overloaded")


def _send_continue(http: InboundRequest) -> None:
    """Send `100 Continue` to a client that waits for it: path, method and length are acceptable."""
    transport, head = http.connection.transport, http.head
    if head.headers.get(hdrs.EXPECT, "").lower() != "100-continue" or transport is None:
        return
    # HTTP/1.0 has no interim answers: the client would read this as the final answer (RFC 9110, 10.1.1).
    if head.version >= HttpVersion11:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
