"""One connection to a destination: sends one request at a time and reads its reply.

aiohttp's connector opens the connection and aiohttp's parser reads the replies. aiohttp's own client protocol
and pool do more, for all kinds of clients, and would make a delivery 10 % more expensive.

A parser is reused only after a reply that can leave nothing behind in it: one that has a Content-Length, came
in one piece, and has nothing after it. Otherwise aiohttp's parser keeps the last trailer of a chunked reply
and returns it as a header of the next reply. A new parser for each reply would make a delivery 5 % more
expensive.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError

from gatehouse.delivery.faults import DeadlineError
from gatehouse.delivery.reply_head import (
    MAX_FIELDS,
    MAX_HEAD,
    HeadReader,
    NotHttpError,
    has_complete_head,
    head_length,
    parse_status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

    _Parsed = tuple[RawResponseMessage, StreamReader]

#: A head, and the body as it arrives; None if the body can't be read.
_ReplyParts: TypeAlias = "tuple[Head, StreamReader | None]"

#: Bytes of a reply that may wait to be read. At twice this size, reading from the socket pauses.
_READ_BUFFER: Final = 64 * 1024
#: Seconds to read what has arrived before a timeout counts. A late timer gets as much time as it was late,
#: within these limits, because the destination can't answer a process that was not running.
_MIN_GRACE: Final = 0.002
_MAX_GRACE: Final = 1.0


class Head(Protocol):
    """The head of a reply, as the parser returns it."""

    @property
    def code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def should_close(self) -> bool:
        """Whether the connection can't be reused."""


class StatusOnlyHead(NamedTuple):
    """A head of which only the status is known."""

    code: int
    headers: Mapping[str, str] = MappingProxyType({})
    should_close: bool = True


class DestinationConnection(BaseProtocol):
    """A connection that aiohttp's connector opened and that this protocol took over."""

    __slots__ = (
        "_connection",
        "_connector_protocol",
        "_content",
        "_head",
        "_must_close",
        "_reply",
        "_reusable_parser",
        "_timer",
        "expires",
        "idle_since",
        "is_silent",
        "is_used",
    )

    _parser: HttpResponseParser | None

    def __init__(self, connection: Connection, expires: float = float("inf")) -> None:
        """Raises `aiohttp.ServerDisconnectedError` if it is closed, or if the other side sent data first."""
        opened = connection.protocol
        assert opened is not None  # noqa: S101 - a connection has a protocol until it is released
        if opened.transport is None or opened.should_close:
            connection.close()
            raise aiohttp.ServerDisconnectedError
        super().__init__(asyncio.get_running_loop())
        self._connection = connection
        #: The connector's own protocol. The connector waits until that protocol ends.
        self._connector_protocol = opened
        self._reply: asyncio.Future[_ReplyParts] | None = None
        #: A parser that has parsed replies and holds no data of them.
        self._reusable_parser: HttpResponseParser | None = None
        #: Collects a head that does not arrive in one piece.
        self._head: HeadReader | None = None
        #: The body of the last reply.
        self._content: StreamReader | None = None
        #: Whether the other side sent more than was asked for, or something that is not a reply.
        self._must_close = False
        self._timer: asyncio.TimerHandle | None = None
        #: Whether it carried a reply before, and whether nothing has arrived since the last request.
        self.is_used = False
        self.is_silent = True
        #: When it expires, and since when it is idle, in the event loop's time.
        self.expires = expires
        self.idle_since = 0.0
        self.transport = opened.transport
        self.transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent over it."""
        transport = self.transport
        return (
            transport is not None
            and not self._must_close
            and not transport.is_closing()
            # A reply may arrive before the whole request is sent.
            and not transport.get_write_buffer_size()
        )

    async def send(self, request: bytes, deadline: float) -> _ReplyParts:
        """Send a request and wait for the head of its reply.

        Raises `aiohttp.ServerDisconnectedError` if there is no reply, `HttpProcessingError` if it is not
        HTTP, and `TimeoutError` if it has not arrived by `deadline`.
        """
        if self.transport is None:
            raise aiohttp.ServerDisconnectedError
        self._content = self._parser = None
        self._head = None
        self.is_silent = True
        self._reply = self._loop.create_future()
        self._timer = self._loop.call_at(deadline, self._on_deadline, deadline)
        self.transport.write(request)
        return await self._reply

    def set_deadline(self, deadline: float) -> None:
        """Set the deadline for the end of the reply, in the event loop's time."""
        self._stop_timer()
        self._timer = self._loop.call_at(deadline, self._on_deadline, deadline)

    def finish(self) -> None:
        """End a reply that was read."""
        self.is_used = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parser, self._parser = self._parser, None
        if parser is not None:
            try:
                # Data after the reply would be the start of another message.
                self._must_close |= parser.feed_eof() is not None
            except Exception:  # noqa: BLE001 - the parser raises various errors
                self._must_close = True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self, deadline: float) -> None:
        """Read what has arrived before the timeout counts: some event loops run timers before they read."""
        grace = min(max(self._loop.time() - deadline, _MIN_GRACE), _MAX_GRACE)
        self._timer = self._loop.call_later(grace, self._time_out)

    def _time_out(self) -> None:
        self._fail(DeadlineError("no reply in time"))

    def _fail(self, error: Exception) -> None:
        self._must_close = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        elif self._content is not None and not self._content.is_eof():
            self._content.set_exception(error)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or (self._content is not None and self._content.is_eof()):
            if data and self.transport is not None:
                # Unsolicited data is not the reply to the next request.
                self._must_close = True
                self.transport.close()
        elif self._parser is not None:
            try:
                messages, _, _ = self._parser.feed_data(data)
            except Exception as error:  # noqa: BLE001 - whatever the parser raises, the body is invalid
                self._abort(error)
            else:
                self._must_close |= bool(messages)
        elif data and not self._reply.done() and not self._take_complete(data):
            self._read_head(data)

    def _take_complete(self, data: bytes) -> bool:
        """Use a reply that arrived complete, as most do. False: it is incomplete, and nothing changed."""
        parser = self._reusable_parser
        if parser is None or self._head is not None or not has_complete_head(data):
            return False
        self._reusable_parser = None
        self.is_silent = False
        try:
            messages, _, _ = parser.feed_data(data)
        except Exception:  # noqa: BLE001 - a new parser parses it again
            return False
        if len(messages) != 1 or not _is_whole_reply(messages[0][0], data):
            return False
        self._reusable_parser = parser
        self._content = messages[0][1]
        assert self._reply is not None  # noqa: S101 - a request was sent
        self._reply.set_result(messages[0])
        return True

    def _read_head(self, data: bytes) -> None:
        self.is_silent = False
        if self._head is None:
            if has_complete_head(data):
                # The usual case.
                self._parse_reply(data, len(data))
                return
            self._head = HeadReader()
        try:
            complete = self._head.feed(data)
        except NotHttpError:
            self._abort(HttpProcessingError())
        else:
            if complete is not None:
                self._parse_reply(*complete)

    def _parse_reply(self, data: bytes, end: int) -> None:
        """Parse a reply whose head is complete and ends at `end`."""
        parsed = (self._parse(data) if end <= MAX_HEAD else None) or self._parse_head_only(data)
        if parsed is None:
            self._use_status_only(data)
            return
        head, self._content = parsed
        if head.code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._must_close = True
        self._set_reply(parsed)

    def _parse(self, data: bytes) -> _Parsed | None:
        """Give the first data of a reply to a parser; None if the parser rejects it."""
        parser = self._parser = self._new_parser()
        try:
            messages, _, _ = parser.feed_data(data)
        except Exception:  # noqa: BLE001 - the parser raises various errors
            return None
        if len(messages) != 1:
            self._must_close = True
            return messages[0] if messages else None
        if _is_whole_reply(messages[0][0], data):
            self._reusable_parser, self._parser = parser, None
        return messages[0]

    def _new_parser(self) -> HttpResponseParser:
        return HttpResponseParser(
            self,
            self._loop,
            _READ_BUFFER,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            max_headers=MAX_FIELDS,
            payload_exception=aiohttp.ClientPayloadError,
            read_until_eof=True,
            auto_decompress=False,
        )

    def _parse_head_only(self, data: bytes) -> _Parsed | None:
        """Parse only the head: the parser may have rejected what follows the head."""
        self._must_close = True
        end = head_length(data)
        parsed = self._parse(data[:end]) if end <= MAX_HEAD else None
        if parsed is not None and self._parser is not None:
            try:
                self._parser.feed_data(data[end:])
            except Exception as error:  # noqa: BLE001 - whatever the parser raises, the body ends here
                if not parsed[1].is_eof():
                    parsed[1].set_exception(error)
        return parsed

    def _use_status_only(self, head: bytes) -> None:
        """Use the status line of a reply whose head the parser rejects."""
        self._must_close = True
        status = parse_status(head)
        if status is not None:
            self._set_reply((StatusOnlyHead(status), None))
        self._abort(HttpProcessingError())
        self._parser = None

    def _set_reply(self, reply: _ReplyParts) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this after each body that was read: see `ingest.connection`.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _abort(self, error: Exception) -> None:
        self._fail(error)
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(error)
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._parser is not None:
            with suppress(Exception):
                # A body without a length ends here.
                self._parser.feed_eof()
        self._stop_timer()
        self._abort(_alert(exc) or aiohttp.ServerDisconnectedError())
        # These objects refer to the connection. The cycle would remain until a full garbage collection.
        self._parser = self._reusable_parser = self._content = self._reply = None
        super().connection_lost(exc)
        self._connector_protocol.connection_lost(exc)
        self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._stop_timer()
        transport = self.transport
        if transport is not None and transport.get_write_buffer_size():
            # A plain close would wait until the other side has read the rest, which may never happen.
            transport.abort()
        self._connection.close()


def _alert(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error if the other side refused TLS. With TLS 1.3, it may do so after the handshake."""
    return error if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "") else None


def _is_whole_reply(head: RawResponseMessage, data: bytes) -> bool:
    """Return whether the data is exactly one reply of a known length."""
    headers = head.headers
    length = headers.get("Content-Length")
    if length is None or head.chunked or head.upgrade or "Content-Encoding" in headers:
        return False
    return data.find(b"\r\n\r\n") + len(b"\r\n\r\n") + int(length) == len(data)
