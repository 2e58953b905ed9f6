"""A connection to a destination: one request at a time, and the answer to each.

aiohttp's connector opens it and aiohttp's parser reads the answers. Its own protocol and pool do more, for
clients of any kind: with them, a delivery costs a tenth more.

A parser is used again only after an answer of which nothing can be left in it: one with a Content-Length
that came in one piece, and with nothing behind it. aiohttp's parser keeps the last trailer of a chunked
answer and hands it out as a header of the next one. A parser for each answer would cost a delivery 5 %
more.
"""

from __future__ import annotations

import asyncio
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

#: A head, and the body as it comes in; None when that can't be read.
_ReplyParts: TypeAlias = "tuple[Head, StreamReader | None]"

#: Bytes of an answer that wait to be read; at twice as many no more is taken from the kernel.
_READ_BUFFER: Final = 64 * 1024
#: Seconds to read what has arrived before a timeout counts: at least, and at most. A late timer gets as much
#: as it was late, because the other side could not answer a process that stood still.
_MIN_GRACE: Final = 0.002
_MAX_GRACE: Final = 1.0


class Head(Protocol):
    """The head of an answer, as the parser gives it."""

    @property
    def code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""

    @property
    def should_close(self) -> bool:
        """Whether the connection can't be used again."""


class StatusOnlyHead(NamedTuple):
    """A head of which only the status is known."""

    code: int
    headers: Mapping[str, str] = MappingProxyType({})
    should_close: bool = True


class DestinationConnection(BaseProtocol):
    """A connection that the connector has opened, taken over."""

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
        """Raises `aiohttp.ServerDisconnectedError` if it is closed, or the other side spoke first."""
        opened = connection.protocol
        assert opened is not None  # noqa: S101 - a connection has one until it is let go of
        if opened.transport is None or opened.should_close:
            connection.close()
            raise aiohttp.ServerDisconnectedError
        super().__init__(asyncio.get_running_loop())
        self._connection = connection
        #: The connector's protocol: the connector waits for its end.
        self._connector_protocol = opened
        self._reply: asyncio.Future[_ReplyParts] | None = None
        #: A parser that has parsed answers, and that none has left anything in.
        self._reusable_parser: HttpResponseParser | None = None
        #: Collects a head that does not come in one piece.
        self._head: HeadReader | None = None
        #: The body of the last answer.
        self._content: StreamReader | None = None
        #: Whether more was said on it than was asked for, or something that is no answer.
        self._must_close = False
        self._timer: asyncio.TimerHandle | None = None
        #: Whether an answer came over it before, and whether nothing came since the last request was sent.
        self.is_used = False
        self.is_silent = True
        #: From when on it is not used again, and since when nobody has used it: on the event loop's clock.
        self.expires = expires
        self.idle_since = 0.0
        self.transport = opened.transport
        self.transport.set_protocol(self)

    @property
    def is_usable(self) -> bool:
        """Whether another request may go over it."""
        transport = self.transport
        return (
            transport is not None
            and not self._must_close
            and not transport.is_closing()
            # An answer may come before all of the request was sent.
            and not transport.get_write_buffer_size()
        )

    async def send(self, request: bytes, deadline: float) -> _ReplyParts:
        """Send a request, and wait for the head of its answer.

        Raises `aiohttp.ServerDisconnectedError` when there is none, `HttpProcessingError` when it is no HTTP,
        and `TimeoutError` when it has not come by `until`.
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
        """Have the answer end by then, on the event loop's clock."""
        self._stop_timer()
        self._timer = self._loop.call_at(deadline, self._on_deadline, deadline)

    def finish(self) -> None:
        """End an answer that was read."""
        self.is_used = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parser, self._parser = self._parser, None
        if parser is not None:
            try:
                # A message that began behind the answer: what follows would be the rest of it.
                self._must_close |= parser.feed_eof() is not None
            except Exception:  # noqa: BLE001 - as above
                self._must_close = True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self, deadline: float) -> None:
        """Read what has arrived meanwhile: some event loops run timers before they read."""
        grace = min(max(self._loop.time() - deadline, _MIN_GRACE), _MAX_GRACE)
        self._timer = self._loop.call_later(grace, self._time_out)

    def _time_out(self) -> None:
        self._fail(DeadlineError("no answer in time"))

    def _fail(self, error: Exception) -> None:
        self._must_close = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        elif self._content is not None and not self._content.is_eof():
            self._content.set_exception(error)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or (self._content is not None and self._content.is_eof()):
            if data and self.transport is not None:
                # Nobody asked. It is not the answer to what comes next.
                self._must_close = True
                self.transport.close()
        elif self._parser is not None:
            try:
                messages, _, _ = self._parser.feed_data(data)
            except Exception as error:  # noqa: BLE001 - whatever the parser makes of it, it is no body
                self._abort(error)
            else:
                self._must_close |= bool(messages)
        elif data and not self._reply.done() and not self._take_complete(data):
            self._read_head(data)

    def _take_complete(self, data: bytes) -> bool:
        """Take an answer that came whole, as most do. False: it did not, and nothing was done with it."""
        parser = self._reusable_parser
        if parser is None or self._head is not None or not has_complete_head(data):
            return False
        self._reusable_parser = None
        self.is_silent = False
        try:
            messages, _, _ = parser.feed_data(data)
        except Exception:  # noqa: BLE001 - it is parsed again, by a parser that is new
            return False
        if len(messages) != 1 or not _is_whole_reply(messages[0][0], data):
            return False
        self._reusable_parser = parser
        self._content = messages[0][1]
        assert self._reply is not None  # noqa: S101 - something was asked
        self._reply.set_result(messages[0])
        return True

    def _read_head(self, data: bytes) -> None:
        self.is_silent = False
        if self._head is None:
            if has_complete_head(data):
                # As most are.
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
        """Take an answer whose head is complete, and no longer than `end`."""
        parsed = (self._parse(data) if end <= MAX_HEAD else None) or self._parse_head_only(data)
        if parsed is None:
            self._use_status_only(data)
            return
        head, self._content = parsed
        if head.code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._must_close = True
        self._set_reply(parsed)

    def _parse(self, data: bytes) -> _Parsed | None:
        """Give a parser what came of an answer; None when it rejects that."""
        parser = self._parser = self._new_parser()
        try:
            messages, _, _ = parser.feed_data(data)
        except Exception:  # noqa: BLE001 - whatever the parser makes of it
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
        """Parse the head alone: what the parser rejected may be what follows it."""
        self._must_close = True
        end = head_length(data)
        parsed = self._parse(data[:end]) if end <= MAX_HEAD else None
        if parsed is not None and self._parser is not None:
            try:
                self._parser.feed_data(data[end:])
            except Exception as error:  # noqa: BLE001 - whatever the parser makes of it, the body ends here
                if not parsed[1].is_eof():
                    parsed[1].set_exception(error)
        return parsed

    def _use_status_only(self, head: bytes) -> None:
        """Take the status line of an answer whose head the parser rejects."""
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
        # aiohttp asks for it after each body that was read: see `ingest.connection`.
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
                # Of a body without a length it is the end.
                self._parser.feed_eof()
        self._stop_timer()
        self._abort(aiohttp.ServerDisconnectedError())
        # They know the wire, and a circle would stay until a rare collection finds it.
        self._parser = self._reusable_parser = self._content = self._reply = None
        super().connection_lost(exc)
        self._connector_protocol.connection_lost(exc)
        self._connection.close()

    def close(self) -> None:
        """Take it down."""
        self._stop_timer()
        transport = self.transport
        if transport is not None and transport.get_write_buffer_size():
            # Closing it would wait until the other side has taken the rest, which it may never do.
            transport.abort()
        self._connection.close()


def _is_whole_reply(head: RawResponseMessage, data: bytes) -> bool:
    """Tell whether some bytes are a whole answer of a known length, with nothing behind it."""
    headers = head.headers
    length = headers.get("Content-Length")
    if length is None or head.chunked or head.upgrade or "Content-Encoding" in headers:
        return False
    return data.find(b"\r\n\r\n") + len(b"\r\n\r\n") + int(length) == len(data)
