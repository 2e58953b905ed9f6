"""A connection to a destination: one request at a time, and the answer to each.

aiohttp's connector opens it and aiohttp's parser reads the answers. Its own protocol and pool do more, for
clients of any kind: with them, a delivery costs a tenth more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

    _Answer = tuple[RawResponseMessage, StreamReader]

#: Bytes of an answer that wait to be read; at twice as many no more is taken from the kernel.
_READ_BUFFER: Final = 64 * 1024


class Wire(BaseProtocol):
    """A connection that the connector has opened, taken over."""

    __slots__ = ("_answer", "_connection", "_content", "_is_spoiled", "_opened", "free_since")

    _parser: HttpResponseParser | None

    def __init__(self, connection: Connection) -> None:
        """Raises `aiohttp.ServerDisconnectedError` if it is closed, or the other side spoke first."""
        opened = connection.protocol
        assert opened is not None  # noqa: S101 - a connection has one until it is let go of
        if opened.transport is None or opened.should_close:
            connection.close()
            raise aiohttp.ServerDisconnectedError
        loop = asyncio.get_running_loop()
        parser = HttpResponseParser(
            self,
            loop,
            _READ_BUFFER,
            payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True,
            auto_decompress=False,
        )
        super().__init__(loop, parser)
        self._connection = connection
        #: The connector's protocol: the connector waits for its end.
        self._opened = opened
        self._answer: asyncio.Future[_Answer] | None = None
        #: The body of the last answer.
        self._content: StreamReader | None = None
        #: Whether more was said on it than was asked for, or something that is no answer.
        self._is_spoiled = False
        #: Since when nobody has used it, on the event loop's clock.
        self.free_since = 0.0
        self.transport = opened.transport
        self.transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Whether another request may go over it."""
        transport = self.transport
        return (
            transport is not None
            and not self._is_spoiled
            and not transport.is_closing()
            # An answer may come before all of the request was sent.
            and not transport.get_write_buffer_size()
        )

    async def ask(self, request: bytes) -> _Answer:
        """Send a request, and wait for the head of its answer.

        Raises `aiohttp.ServerDisconnectedError` when there is none, `HttpProcessingError` when it is no HTTP,
        and `TimeoutError` after `time_out`.
        """
        if self.transport is None:
            raise aiohttp.ServerDisconnectedError
        self._content = None
        self._answer = self._loop.create_future()
        self.transport.write(request)
        return await self._answer

    def time_out(self) -> None:
        """End the waiting for an answer."""
        self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        self._is_spoiled = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or (self._content is not None and self._content.is_eof()):
            if data and self.transport is not None:
                # Nobody asked. It is not the answer to what comes next.
                self.transport.close()
            return
        assert self._parser is not None  # noqa: S101 - it is let go of with the connection
        try:
            messages, _, _ = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever the parser makes of it, it is no answer
            self._break(error if isinstance(error, HttpProcessingError) else HttpProcessingError())
            return
        for head, content in messages:
            if _is_interim(head.code):
                continue
            if self._answer.done() or head.code == HTTPStatus.SWITCHING_PROTOCOLS:
                self._is_spoiled = True
            if not self._answer.done():
                self._content = content
                self._answer.set_result((head, content))

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp asks for it after each body that was read: see `ingest.connection`.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _break(self, error: Exception) -> None:
        self._fail(error)
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(error)
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._parser is not None:
            with suppress(Exception):
                # Of a body without a length it is the end.
                self._parser.feed_eof()
        self._break(aiohttp.ServerDisconnectedError())
        # They know the wire, and a circle would stay until a rare collection finds it.
        self._parser = self._content = self._answer = None
        super().connection_lost(exc)
        self._opened.connection_lost(exc)
        self._connection.close()

    def hang_up(self) -> None:
        """Take it down."""
        transport = self.transport
        if transport is not None and transport.get_write_buffer_size():
            # Closing it would wait until the other side has taken the rest, which it may never do.
            transport.abort()
        self._connection.close()


def _is_interim(status: int) -> bool:
    return status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS
