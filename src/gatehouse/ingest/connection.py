"""One connection of a provider: bytes in, requests one after the other, answers out.

aiohttp's parser makes requests of the bytes, and its streams hold their bodies. The rest of aiohttp's server
serves any application, with a task, a request and a response that can do whatever one may want: a tenth of
what taking in an event cost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import aiohttp
from aiohttp import HttpVersion10
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

from gatehouse.ingest.client import peer_of
from gatehouse.ingest.inbound import Inbound
from gatehouse.ingest.writing import written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.admission import Admission
    from gatehouse.ingest.answer import Answer
    from gatehouse.ingest.connections import Connections

    #: A head and its body; None stands for what was no head.
    _Message = tuple[RawRequestMessage | None, StreamReader]

MAX_HEADERS: Final = 64
#: Bytes of a request's head, from which on no more of it is waited for.
MAX_HEAD: Final = 32 * 1024
#: Seconds for which the rest of a refused body is thrown away, so that its sender gets to see the answer.
LINGER: Final = 2.0
#: Bytes of a body that wait to be read; at twice as many no more is taken from the kernel.
_READ_BUFFER: Final = 64 * 1024
#: Requests without an answer that a connection may have; from half as many on, more are taken.
_MOST_UNANSWERED: Final = 32
#: After these the rest of the request is in the way of the next one.
_CLOSING: Final = frozenset(
    map(int, (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
)


class Answers(NamedTuple):
    """What a connection is answered with. The last three are below HTTP, and given the peer's address."""

    #: For a request. It raises nothing.
    handle: Callable[[Inbound], Awaitable[Answer]]
    #: For an answer that can't be written.
    defect: Callable[[Exception], Answer]
    #: For what is not HTTP as aiohttp understands it: the bytes of the answer.
    malformed: Callable[[str | None], bytes]
    #: For a head that is too long: likewise.
    head_too_long: Callable[[str | None], bytes]
    #: For one connection too many: likewise.
    no_room: Callable[[str | None], bytes]


class Connection(BaseProtocol):
    """Reads requests and answers them in their order."""

    __slots__ = (
        "_admission",
        "_answers",
        "_arriving",
        "_has_place",
        "_head",
        "_idle_timer",
        "_idle_until",
        "_is_closing",
        "_messages",
        "_patience",
        "_server",
        "_stashed",
        "_unread",
        "is_late",
        "peer",
        "serving",
    )

    _parser: HttpRequestParser | None

    def __init__(
        self,
        server: Connections,
        answers: Answers,
        admission: Admission,
        patience: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        parser = HttpRequestParser(
            self,
            loop,
            _READ_BUFFER,
            max_headers=MAX_HEADERS,
            payload_exception=aiohttp.ClientPayloadError,
            auto_decompress=False,
            max_msg_queue_size=_MOST_UNANSWERED,
        )
        super().__init__(loop, parser)
        self._server = server
        self._answers = answers
        self._admission = admission
        #: Seconds for which it may be idle, and for which an answer may lie there unread.
        self._patience = patience
        #: The address of the other end.
        self.peer: str | None = None
        #: Requests that have no answer yet, the one under way among them.
        self._messages: deque[_Message] = deque()
        #: What answers requests, while there are any.
        self.serving: asyncio.Task[None] | None = None
        #: Whether no more requests are taken.
        self._is_closing = False
        self._has_place = False
        #: What came while it waited to be admitted.
        self._stashed = b""
        #: Whether it waited for too long: its request is to be refused.
        self.is_late = False
        #: Bytes of a head that is not complete.
        self._head = 0
        #: The body that is arriving, if one did not come with its head.
        self._arriving: StreamReader | None = None
        self._idle_until = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its head."""
        return self.serving is None and not self._is_closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_of(transport)
        # There may never come a request.
        self._wait_idly()
        self._server.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if self._stashed:
            self._stashed += data
        elif self._has_place or not self._begins_something():
            self._parse(data)
        elif self._admission.enter():
            self._has_place = True
            self._parse(data)
        else:
            self._stashed = data
            self._pause_reading_for_buffer()
            self._admission.wait(self)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp asks for it after each body that was read, and goes through its parser and the transport for
        # that. Mostly nothing was paused: a twentieth of what a request costs.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _begins_something(self) -> bool:
        return self.serving is None and self._arriving is None

    def admit(self) -> None:
        """Go on with what was sent."""
        self._has_place = True
        self._parse(self._unstash())

    def refuse_late(self) -> None:
        """Go on with what was sent, to refuse it: see `is_late`."""
        self.is_late = True
        self._parse(self._unstash())

    def _unstash(self) -> bytes:
        stashed, self._stashed = self._stashed, b""
        self._resume_reading_for_buffer()
        return stashed

    def step_aside(self) -> None:
        """Give the place back: from here on the request only waits."""
        if self._has_place:
            self._has_place = False
            self._admission.leave()

    def _parse(self, data: bytes) -> None:
        if self._is_closing and self._arriving is None:
            if self.serving is None:
                self.step_aside()
            return
        was_arriving = self._arriving
        messages = self._read(data)
        if was_arriving is not None and was_arriving.is_eof():
            self._arriving = None
        if not messages:
            # What ends a body is no head.
            self._await_more(0 if was_arriving else len(data))
            return
        self._head = 0
        self._messages += messages
        last = messages[-1][1]
        if not last.is_eof():
            self._arriving = last
        if self.serving is None:
            self.serving = self._loop.create_task(self._serve())
        if len(self._messages) >= _MOST_UNANSWERED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _read(self, data: bytes) -> Sequence[_Message]:
        assert self._parser is not None  # noqa: S101 - it is let go of with the connection
        try:
            messages, _, _ = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever the parser stumbles over, it is not HTTP
            if self._arriving is None or self._arriving.is_eof():
                return [(None, EMPTY_PAYLOAD)]
            is_known = isinstance(error, HttpProcessingError)
            self._arriving.set_exception(error if is_known else HttpProcessingError())
            return []
        return messages

    def _await_more(self, size: int) -> None:
        """Look at what completed no head. Of a head itself it is `size` bytes, unless a body has begun."""
        self.is_late = False
        if self._begins_something():
            self.step_aside()
        if self._arriving is None:
            self._head += size
            if self._head > MAX_HEAD:
                self._refuse_head()

    async def _serve(self) -> None:
        """Answer the requests that have come, one after the other."""
        try:
            while self._messages:
                message, content = self._messages[0]
                # The parser takes HTTP/0.9, too: without a version, and for CONNECT even without a target.
                if message is not None and message.version < HttpVersion10:
                    message = None
                if message is None:
                    self.step_aside()
                    self._send(self._answers.malformed(self.peer))
                if message is None or not await self._answer(message, content):
                    self.hang_up()
                    break
                # Not before: of a request whose body is still to come, the parser would lose count.
                self._messages.popleft()
                assert self._parser is not None  # noqa: S101 - the connection is open
                self._parser.message_consumed()
                if self._buffer_paused:
                    self._take_more()
        except Exception as error:  # noqa: BLE001 - whatever it is, the same request is not begun again
            self._answers.defect(error)
            self.hang_up()
        finally:
            self.serving = None
            if self.transport is None:
                self._server.forget(self)
            else:
                self._wait_idly()

    async def _answer(self, message: RawRequestMessage, content: StreamReader) -> bool:
        """Answer a request. Returns whether another one may follow."""
        try:
            answer = await self._answers.handle(Inbound(message, content, self))
        finally:
            self.is_late = False
            self.step_aside()
        # After an offer to upgrade the parser may have dropped what follows.
        ends = message.should_close or message.upgrade or answer.status in _CLOSING
        keep_alive = not (ends or self._is_closing)
        try:
            data = self._written(answer, message, keep_alive=keep_alive)
        except ValueError as error:
            data = self._written(self._answers.defect(error), message, keep_alive=keep_alive)
        self._send(data)
        if self._paused:
            with suppress(ConnectionError):
                await self._drain_helper()
        if not content.is_eof():
            keep_alive = await _thrown_away(content) and keep_alive
        return keep_alive and not self._is_closing and self.transport is not None

    def _written(self, answer: Answer, message: RawRequestMessage, *, keep_alive: bool) -> bytes:
        with_body = message.method != "HEAD"
        return written(answer, keep_alive=keep_alive, version=message.version, with_body=with_body)

    def _send(self, data: bytes) -> None:
        # A peer that is gone takes nothing more; what it sent counts all the same.
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _take_more(self) -> None:
        """Go on reading when few enough requests are left."""
        if len(self._messages) > _MOST_UNANSWERED // 2:
            return
        self._parse(b"")
        if len(self._messages) < _MOST_UNANSWERED:
            self._resume_reading_for_buffer()

    def _wait_idly(self) -> None:
        self._idle_until = self._loop.time() + self._patience
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_at(self._idle_until, self._look_idle)

    def _look_idle(self) -> None:
        # One timer for many requests: it is put off when it goes off.
        self._idle_timer = None
        if self.serving is not None:
            return
        if self._loop.time() < self._idle_until:
            self._idle_timer = self._loop.call_at(self._idle_until, self._look_idle)
        else:
            self.hang_up()

    def close(self) -> None:
        """Take no more requests, and go when the one under way has its answer."""
        if self.is_idle:
            self.hang_up()
        self._is_closing = True

    def hang_up(self) -> None:
        """Go as soon as the other end has taken what was sent to it; see `patience`."""
        self._is_closing = True
        if self.transport is not None:
            self.transport.close()
            # With some of an answer left it would stay until that is taken.
            if self.transport.get_write_buffer_size():
                self._abort_unless_taken(self.transport)

    def _refuse_head(self) -> None:
        if self.is_idle:
            self.refuse(self._answers.head_too_long(self.peer))
        else:  # an earlier request is still to be answered, and this is no place for another answer
            self.close()

    def refuse(self, answer: bytes) -> None:
        """Answer, and take nothing more. What still comes is thrown away for a while: see `LINGER`."""
        transport = self.transport
        self._is_closing = True
        if transport is not None:
            transport.write(answer)
            if transport.can_write_eof():
                transport.write_eof()
            self._loop.call_later(LINGER, transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._abort_unless_taken(self.transport)

    def _abort_unless_taken(self, transport: asyncio.WriteTransport) -> None:
        self._forget_unread()
        self._unread = self._loop.call_later(self._patience, transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_unread()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_unread()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._is_closing = True
        self._messages.clear()
        super().connection_lost(exc)
        if self._arriving is not None and not self._arriving.is_eof():
            self._arriving.set_exception(exc or ConnectionResetError("the connection was closed"))
        # Both know the connection, and a circle would stay until a rare collection finds it.
        self._parser = self._arriving = None
        if self.serving is None:
            self.step_aside()
            self._server.forget(self)

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


async def _thrown_away(content: StreamReader) -> bool:
    """Throw the rest of a body away, for a while. Returns whether it has come to its end."""
    try:
        async with asyncio.timeout(LINGER):
            while not content.is_eof():
                await content.readany()
    except (OSError, aiohttp.ClientPayloadError, HttpProcessingError) as error:
        # The body has it, too: a circle, as in `Connection.connection_lost`.
        error.__traceback__ = None
    return content.is_eof()
