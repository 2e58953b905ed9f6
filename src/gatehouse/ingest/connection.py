"""One connection of a provider: bytes in, requests one after the other, answers out.

aiohttp's parser makes requests of the bytes (see `reading`), and its streams hold their bodies. The rest of
aiohttp's server serves any application, with a task, a request and a response that can do whatever one may
want: a tenth of what taking in an event cost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from gatehouse.ingest.base_connection import LINGER, Lines, Link
from gatehouse.ingest.client_address import peer_of
from gatehouse.ingest.http1 import MOST_UNANSWERED, GivenUpError, Reader, written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.http import HttpRequestParser, RawRequestMessage
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.answer import Answer
    from gatehouse.ingest.awake_clock import AwakeClock, AwakeTimer
    from gatehouse.ingest.base_connection import Admission
    from gatehouse.ingest.http1 import Message

#: After these the rest of the request is in the way of the next one.
_CLOSING: Final = frozenset(
    map(int, (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
)


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A request whose head is complete."""

    #: Method, path as sent, version and headers.
    head: RawRequestMessage
    #: The body, as far as it has arrived.
    content: StreamReader
    connection: Connection

    @property
    def content_length(self) -> int | None:
        """How long the body is, if that was said."""
        length = self.head.headers.get("Content-Length")
        return None if length is None else int(length)


class Owner(Protocol):
    """What keeps the connections of a listener: a connection reports to it."""

    lines: Lines
    clock: AwakeClock

    def connection_made(self, newcomer: Connection) -> bool:
        """Count a connection. Returns whether there is room for it."""

    def forget(self, connection: Connection) -> None:
        """Count one less: it is closed, and no request of it is in progress."""


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


class Connection(Link):
    """Reads requests and answers them in their order."""

    __slots__ = (
        "_admission",
        "_answers",
        "_has_place",
        "_idle_timer",
        "_idle_until",
        "_messages",
        "_reader",
        "_server",
        "_stashed",
        "is_late",
        "serving",
    )

    _parser: HttpRequestParser | None

    def __init__(
        self,
        server: Owner,
        answers: Answers,
        admission: Admission,
        patience: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop, server.lines, server.clock, patience)
        self._reader = Reader(self, loop)
        self._parser = self._reader.parser
        self._server = server
        self._answers = answers
        self._admission = admission
        #: Requests that have no answer yet, the one under way among them.
        self._messages: deque[Message] = deque()
        #: What answers requests, while there are any.
        self.serving: asyncio.Task[None] | None = None
        self._has_place = False
        #: What came while it waited to be admitted.
        self._stashed = b""
        #: Whether it waited for too long: its request is to be refused.
        self.is_late = False
        #: By the clock, which stands still while the gateway does.
        self._idle_until = 0.0
        self._idle_timer: AwakeTimer | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its head."""
        return self.serving is None and not self._is_closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_of(transport)
        if self._server.connection_made(self):
            # There may never come a request.
            self._wait_idly()
        else:
            self.part(self._answers.no_room(self.peer))

    def data_received(self, data: bytes) -> None:
        if self._stashed:
            self._stashed += data
        elif self._has_place or self.serving is not None or self._reader.arriving is not None:
            self._parse(data)
        elif self._is_closing:
            return
        elif self._admission.enter():
            self._has_place = True
            self._parse(data)
        else:
            self._stashed = data
            self.stand_nowhere()
            self._pause_reading_for_buffer()
            self._admission.wait(self)

    def eof_received(self) -> bool:
        """Notice that nothing more will be sent. Returns whether there is something to answer."""
        self._has_ended = True
        if self._stashed:
            return True
        self._end_reading()
        return self.serving is not None

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp asks for it after each body that was read, and goes through its parser and the transport for
        # that. Mostly nothing was paused: a twentieth of what a request costs.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _begins_something(self) -> bool:
        return self.serving is None and self._reader.arriving is None

    def admit(self) -> None:
        """Go on with what was sent."""
        self._has_place = True
        self._parse_stashed()

    def refuse_late(self) -> None:
        """Go on with what was sent, to refuse it: see `is_late`."""
        self.is_late = True
        self._parse_stashed()

    def _parse_stashed(self) -> None:
        stashed, self._stashed = self._stashed, b""
        self._resume_reading_for_buffer()
        self._parse(stashed)
        if self._has_ended:
            self._end_reading()

    def step_aside(self) -> None:
        """Give the place back: from here on the request only waits."""
        if self._has_place:
            self._has_place = False
            self._admission.leave()

    def _parse(self, data: bytes) -> None:
        was_arriving = self._reader.arriving
        if self._is_closing and was_arriving is None:
            if self.serving is None:
                self.step_aside()
            return
        messages = self._reader.read(data)
        if was_arriving is not None and self._reader.arriving is not was_arriving:
            self.stand_nowhere()
        if not messages:
            self._await_more()
            return
        self._messages += messages
        if self.serving is None:
            self.serving = self._loop.create_task(self._serve())
            if self._reader.arriving is None or messages[0][1].is_eof():
                self.stand_nowhere()
            else:
                self.stand_in_sending()
        if len(self._messages) >= MOST_UNANSWERED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _await_more(self) -> None:
        """Give way to others: what came completed no head."""
        self.is_late = False
        if self._begins_something():
            self.step_aside()
            if self._reader.head:
                self.stand_in_sending()
            else:
                self.stand_in(self._lines.idle)

    def _end_reading(self) -> None:
        """Take it that all was sent: what is not complete never will be."""
        has_begun = self._reader.head
        self._reader.end(ConnectionResetError("the other end sends nothing more"))
        if self.is_idle:
            if has_begun:
                self.send(self._answers.malformed(self.peer))
            self.hang_up()

    async def _serve(self) -> None:
        """Answer the requests that have come, one after the other."""
        try:
            while self._messages:
                message, content = self._messages[0]
                if message is None:
                    self.step_aside()
                    self.part(self._refusal())
                    break
                if self._reader.arriving is not None and not content.is_eof():
                    self.stand_in_sending()
                if not await self._answer(message, content):
                    self._go(message)
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
            elif not self._is_closing:
                self._wait_idly()

    async def _answer(self, message: RawRequestMessage, content: StreamReader) -> bool:
        """Answer a request. Returns whether another one may follow."""
        try:
            answer = await self._answers.handle(Inbound(message, content, self))
        finally:
            self.is_late = False
            self.step_aside()
        is_last = self._reader.is_over and len(self._messages) == 1
        keep_alive = not (is_last or self._is_closing or answer.status in _CLOSING)
        try:
            data = self._written(answer, message, keep_alive=keep_alive)
        except ValueError as error:
            data = self._written(self._answers.defect(error), message, keep_alive=keep_alive)
        self.send(data)
        if self._paused and not self._is_hurried:
            await self.until_taken()
        if keep_alive and not content.is_eof():
            self.stand_in(self._lines.leaving)
            keep_alive = await _thrown_away(content)
        return keep_alive and not self._is_closing and self.transport is not None

    def _written(self, answer: Answer, message: RawRequestMessage, *, keep_alive: bool) -> bytes:
        with_body = message.method != "HEAD"
        return written(answer, keep_alive=keep_alive, version=message.version, with_body=with_body)

    def _refusal(self) -> bytes:
        answers = self._answers
        return (answers.head_too_long if self._reader.is_too_long else answers.malformed)(self.peer)

    def _take_more(self) -> None:
        """Go on reading when few enough requests are left."""
        if len(self._messages) > MOST_UNANSWERED // 2:
            return
        self._parse(b"")
        if len(self._messages) < MOST_UNANSWERED:
            self._resume_reading_for_buffer()

    def _wait_idly(self) -> None:
        if self._reader.head:
            self.stand_in_sending()
        elif self._line is None:
            # As mostly: what `stand_in` would do, without the call.
            self._line = self._lines.idle
            self._line[self] = None
        else:
            self.stand_in(self._lines.idle)
        self._idle_until = self._loop.time() - self._clock.stopped + self._patience
        if self._idle_timer is None:
            self._idle_timer = self._clock.call_later(self._patience, self._look_idle)

    def _look_idle(self) -> None:
        # One timer for many requests: it is put off when it goes off.
        self._idle_timer = None
        if self.serving is not None:
            return
        left = self._patience if self._stashed else self._idle_until - self._clock.time()
        if left > 0:
            self._idle_timer = self._clock.call_later(left, self._look_idle)
        else:
            self.hang_up()

    def make_room(self) -> None:
        """Go at once, for others."""
        is_leaving = self._line is self._lines.leaving
        self.stand_nowhere()
        self._is_closing = self._is_hurried = True
        if is_leaving:
            self.leave()
        elif self.serving is not None:
            self._reader.end(GivenUpError("the place is needed"))
        else:
            if self._reader.head:
                self.send(self._answers.no_room(self.peer))
            self.hang_up()

    def waited(self) -> float:
        """Return for how many seconds it has been idle, or sending."""
        since = self._idle_until - self._patience if self._line is self._lines.idle else self._since
        return self._clock.time() - since

    def close(self) -> None:
        """Take no more requests, and go when the one under way has its answer."""
        if self.is_idle:
            self.hang_up()
        self._is_closing = True

    def _go(self, message: RawRequestMessage) -> None:
        """Go after the last answer."""
        if message.should_close or self._has_ended or self._is_hurried:
            self.hang_up()
        else:
            self._reader.end(ConnectionResetError("nothing more is read"))
            self.part()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._messages.clear()
        super().connection_lost(exc)
        # Both know the connection, and a circle would stay until a rare collection finds it.
        self._parser = None
        self._reader.close(exc or ConnectionResetError("the connection was closed"))
        if self.serving is None:
            self.step_aside()
            self._server.forget(self)


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
