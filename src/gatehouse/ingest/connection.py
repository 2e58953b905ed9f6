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

from gatehouse.ingest.base_connection import LINGER, BaseConnection, EvictionQueues
from gatehouse.ingest.client_address import peer_address
from gatehouse.ingest.http1 import MAX_PIPELINED, EvictedError, RequestParser, encode_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.http import HttpRequestParser, RawRequestMessage
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.answer import Answer
    from gatehouse.ingest.awake_clock import AwakeClock, AwakeTimer
    from gatehouse.ingest.base_connection import Admission
    from gatehouse.ingest.http1 import ParsedRequest

#: After these the rest of the request is in the way of the next one.
_CLOSING: Final = frozenset(
    map(int, (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
)


class InboundRequest(msgspec.Struct, frozen=True, gc=False):
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

    queues: EvictionQueues
    clock: AwakeClock

    def connection_made(self, newcomer: Connection) -> bool:
        """Count a connection. Returns whether there is room for it."""

    def remove(self, connection: Connection) -> None:
        """Count one less: it is closed, and no request of it is in progress."""


class Handlers(NamedTuple):
    """What a connection is answered with. The last three are below HTTP, and given the peer's address."""

    #: For a request. It raises nothing.
    handle: Callable[[InboundRequest], Awaitable[Answer]]
    #: For an answer that can't be written.
    defect: Callable[[Exception], Answer]
    #: For what is not HTTP as aiohttp understands it: the bytes of the answer.
    malformed: Callable[[str | None], bytes]
    #: For a head that is too long: likewise.
    head_too_long: Callable[[str | None], bytes]
    #: For one connection too many: likewise.
    no_room: Callable[[str | None], bytes]


class Connection(BaseConnection):
    """Reads requests and answers them in their order."""

    __slots__ = (
        "_admission",
        "_handlers",
        "_has_slot",
        "_idle_timer",
        "_idle_until",
        "_request_parser",
        "_server",
        "_unanswered",
        "_unparsed",
        "is_late",
        "serving",
    )

    _parser: HttpRequestParser | None

    def __init__(
        self,
        server: Owner,
        answers: Handlers,
        admission: Admission,
        patience: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop, server.queues, server.clock, patience)
        self._request_parser = RequestParser(self, loop)
        self._parser = self._request_parser.parser
        self._server = server
        self._handlers = answers
        self._admission = admission
        #: Requests that have no answer yet, the one under way among them.
        self._unanswered: deque[ParsedRequest] = deque()
        #: What answers requests, while there are any.
        self.serving: asyncio.Task[None] | None = None
        self._has_slot = False
        #: What came while it waited to be admitted.
        self._unparsed = b""
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
        self.peer = peer_address(transport)
        if self._server.connection_made(self):
            # There may never come a request.
            self._become_idle()
        else:
            self.close_with_linger(self._handlers.no_room(self.peer))

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._unparsed += data
        elif self._has_slot or self.serving is not None or self._request_parser.incomplete_body is not None:
            self._parse(data)
        elif self._is_closing:
            return
        elif self._admission.enter():
            self._has_slot = True
            self._parse(data)
        else:
            self._unparsed = data
            self.leave_queue()
            self._pause_reading_for_buffer()
            self._admission.wait(self)

    def eof_received(self) -> bool:
        """Notice that nothing more will be sent. Returns whether there is something to answer."""
        self._peer_is_done = True
        if self._unparsed:
            return True
        self._end_reading()
        return self.serving is not None

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp asks for it after each body that was read, and goes through its parser and the transport for
        # that. Mostly nothing was paused: a twentieth of what a request costs.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _is_between_requests(self) -> bool:
        return self.serving is None and self._request_parser.incomplete_body is None

    def admit(self) -> None:
        """Go on with what was sent."""
        self._has_slot = True
        self._parse_waiting()

    def refuse_late(self) -> None:
        """Go on with what was sent, to refuse it: see `is_late`."""
        self.is_late = True
        self._parse_waiting()

    def _parse_waiting(self) -> None:
        stashed, self._unparsed = self._unparsed, b""
        self._resume_reading_for_buffer()
        self._parse(stashed)
        if self._peer_is_done:
            self._end_reading()

    def release_slot(self) -> None:
        """Give the place back: from here on the request only waits."""
        if self._has_slot:
            self._has_slot = False
            self._admission.leave()

    def _parse(self, data: bytes) -> None:
        previous_body = self._request_parser.incomplete_body
        if self._is_closing and previous_body is None:
            if self.serving is None:
                self.release_slot()
            return
        requests = self._request_parser.read(data)
        if previous_body is not None and self._request_parser.incomplete_body is not previous_body:
            self.leave_queue()
        if not requests:
            self._wait_for_more()
            return
        self._unanswered += requests
        if self.serving is None:
            self.serving = self._loop.create_task(self._serve())
            if self._request_parser.incomplete_body is None or requests[0][1].is_eof():
                self.leave_queue()
            else:
                self.queue_as_sending()
        if len(self._unanswered) >= MAX_PIPELINED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _wait_for_more(self) -> None:
        """Give way to others: what came completed no head."""
        self.is_late = False
        if self._is_between_requests():
            self.release_slot()
            if self._request_parser.head_size:
                self.queue_as_sending()
            else:
                self.queue_in(self._queues.idle)

    def _end_reading(self) -> None:
        """Take it that all was sent: what is not complete never will be."""
        has_begun = self._request_parser.head_size
        self._request_parser.end(ConnectionResetError("the other end sends nothing more"))
        if self.is_idle:
            if has_begun:
                self.send(self._handlers.malformed(self.peer))
            self.close_after_flush()

    async def _serve(self) -> None:
        """Answer the requests that have come, one after the other."""
        try:
            while self._unanswered:
                head, content = self._unanswered[0]
                if head is None:
                    self.release_slot()
                    self.close_with_linger(self._malformed_answer())
                    break
                if self._request_parser.incomplete_body is not None and not content.is_eof():
                    self.queue_as_sending()
                if not await self._answer(head, content):
                    self._close_after_last(head)
                    break
                # Not before: of a request whose body is still to come, the parser would lose count.
                self._unanswered.popleft()
                assert self._parser is not None  # noqa: S101 - the connection is open
                self._parser.message_consumed()
                if self._buffer_paused:
                    self._resume_parsing()
        except Exception as error:  # noqa: BLE001 - whatever it is, the same request is not begun again
            self._handlers.defect(error)
            self.close_after_flush()
        finally:
            self.serving = None
            if self.transport is None:
                self._server.remove(self)
            elif not self._is_closing:
                self._become_idle()

    async def _answer(self, head: RawRequestMessage, content: StreamReader) -> bool:
        """Answer a request. Returns whether another one may follow."""
        try:
            answer = await self._handlers.handle(InboundRequest(head, content, self))
        finally:
            self.is_late = False
            self.release_slot()
        is_last = self._request_parser.is_finished and len(self._unanswered) == 1
        keep_alive = not (is_last or self._is_closing or answer.status in _CLOSING)
        try:
            data = self._encode(answer, head, keep_alive=keep_alive)
        except ValueError as error:
            data = self._encode(self._handlers.defect(error), head, keep_alive=keep_alive)
        self.send(data)
        if self._paused and not self._is_evicted:
            await self.drain()
        if keep_alive and not content.is_eof():
            self.queue_in(self._queues.closing)
            keep_alive = await _discard_rest(content)
        return keep_alive and not self._is_closing and self.transport is not None

    def _encode(self, answer: Answer, head: RawRequestMessage, *, keep_alive: bool) -> bytes:
        with_body = head.method != "HEAD"
        return encode_answer(answer, keep_alive=keep_alive, version=head.version, with_body=with_body)

    def _malformed_answer(self) -> bytes:
        answers = self._handlers
        return (answers.head_too_long if self._request_parser.is_head_too_long else answers.malformed)(
            self.peer
        )

    def _resume_parsing(self) -> None:
        """Go on reading when few enough requests are left."""
        if len(self._unanswered) > MAX_PIPELINED // 2:
            return
        self._parse(b"")
        if len(self._unanswered) < MAX_PIPELINED:
            self._resume_reading_for_buffer()

    def _become_idle(self) -> None:
        if self._request_parser.head_size:
            self.queue_as_sending()
        elif self._queue is None:
            # As mostly: what `stand_in` would do, without the call.
            self._queue = self._queues.idle
            self._queue[self] = None
        else:
            self.queue_in(self._queues.idle)
        self._idle_until = self._loop.time() - self._clock.stopped + self._patience
        if self._idle_timer is None:
            self._idle_timer = self._clock.call_later(self._patience, self._check_idle)

    def _check_idle(self) -> None:
        # One timer for many requests: it is put off when it goes off.
        self._idle_timer = None
        if self.serving is not None:
            return
        left = self._patience if self._unparsed else self._idle_until - self._clock.time()
        if left > 0:
            self._idle_timer = self._clock.call_later(left, self._check_idle)
        else:
            self.close_after_flush()

    def evict(self) -> None:
        """Go at once, for others."""
        is_leaving = self._queue is self._queues.closing
        self.leave_queue()
        self._is_closing = self._is_evicted = True
        if is_leaving:
            self.abort()
        elif self.serving is not None:
            self._request_parser.end(EvictedError("the place is needed"))
        else:
            if self._request_parser.head_size:
                self.send(self._handlers.no_room(self.peer))
            self.close_after_flush()

    def waiting_seconds(self) -> float:
        """Return for how many seconds it has been idle, or sending."""
        since = self._idle_until - self._patience if self._queue is self._queues.idle else self._sending_since
        return self._clock.time() - since

    def close(self) -> None:
        """Take no more requests, and go when the one under way has its answer."""
        if self.is_idle:
            self.close_after_flush()
        self._is_closing = True

    def _close_after_last(self, head: RawRequestMessage) -> None:
        """Go after the last answer."""
        if head.should_close or self._peer_is_done or self._is_evicted:
            self.close_after_flush()
        else:
            self._request_parser.end(ConnectionResetError("nothing more is read"))
            self.close_with_linger()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._unanswered.clear()
        super().connection_lost(exc)
        # Both know the connection, and a circle would stay until a rare collection finds it.
        self._parser = None
        self._request_parser.close(exc or ConnectionResetError("the connection was closed"))
        if self.serving is None:
            self.release_slot()
            self._server.remove(self)


async def _discard_rest(content: StreamReader) -> bool:
    """Throw the rest of a body away, for a while. Returns whether it has come to its end."""
    try:
        async with asyncio.timeout(LINGER):
            while not content.is_eof():
                await content.readany()
    except (OSError, aiohttp.ClientPayloadError, HttpProcessingError) as error:
        # The body has it, too: a circle, as in `Connection.connection_lost`.
        error.__traceback__ = None
    return content.is_eof()
