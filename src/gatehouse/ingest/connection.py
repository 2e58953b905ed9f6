"""One connection of a provider: parses its requests, and answers them in order.

The connection uses aiohttp's parser (see `http1`) and aiohttp's streams for bodies. It does not use the rest
of aiohttp's server, which supports any application with a task, a request object and a response object. That
generality made up a tenth of the cost of an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import msgspec

from gatehouse.ingest.base_connection import BaseConnection, EvictionQueues, discard_rest
from gatehouse.ingest.client_address import peer_address
from gatehouse.ingest.http1 import MAX_PIPELINED, EvictedError, RequestParser, encode_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.http import HttpRequestParser
    from aiohttp.streams import StreamReader

    from gatehouse.ingest.answer import Answer
    from gatehouse.ingest.awake_clock import AwakeClock, AwakeTimer
    from gatehouse.ingest.base_connection import Admission
    from gatehouse.ingest.http1 import ParsedRequest, RequestHead

#: After these statuses the rest of the request cannot be skipped, so the connection closes.
_CLOSING: Final = frozenset(
    map(int, (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
)


class InboundRequest(msgspec.Struct, frozen=True, gc=False):
    """A request whose head is complete."""

    #: Method, target as sent, version and headers.
    head: RequestHead
    #: The body, as far as it has arrived.
    content: StreamReader
    connection: Connection

    @property
    def content_length(self) -> int | None:
        """The announced length of the body; None when the request announces none."""
        length = self.head.headers.get("Content-Length")
        return None if length is None else int(length)


class Owner(Protocol):
    """What a connection needs of the object that tracks all connections."""

    queues: EvictionQueues
    clock: AwakeClock

    def connection_made(self, newcomer: Connection) -> bool:
        """Add a connection. Return whether there is room for it."""

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is closed and has no request in progress."""


class Handlers(NamedTuple):
    """The answers that a connection gives.

    The last three are encoded already, and take the client's address.
    """

    #: Answers a request. Raises nothing.
    handle: Callable[[InboundRequest], Awaitable[Answer]]
    #: Answers a request whose answer cannot be encoded.
    defect: Callable[[Exception], Answer]
    #: Answers bytes that aiohttp does not parse as HTTP.
    malformed: Callable[[str | None], bytes]
    #: Answers a request whose head is too long.
    head_too_long: Callable[[str | None], bytes]
    #: Answers a connection that exceeds the limit.
    no_room: Callable[[str | None], bytes]


class Connection(BaseConnection):
    """Reads requests and answers them in order."""

    __slots__ = (
        "_admission",
        "_handlers",
        "_has_slot",
        "_idle_timer",
        "_idle_until",
        "_owner",
        "_request_parser",
        "_unanswered",
        "_unparsed",
        "is_late",
        "serving_task",
    )

    _parser: HttpRequestParser | None

    def __init__(
        self,
        owner: Owner,
        handlers: Handlers,
        admission: Admission,
        idle_timeout: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop, owner.queues, owner.clock, idle_timeout)
        self._request_parser = RequestParser(self, loop)
        self._parser = self._request_parser.parser
        self._owner = owner
        self._handlers = handlers
        self._admission = admission
        #: Requests without an answer, including the one that is processed now.
        self._unanswered: deque[ParsedRequest] = deque()
        #: The task that answers requests; None while there are none.
        self.serving_task: asyncio.Task[None] | None = None
        self._has_slot = False
        #: Data that arrived while the connection waits for admission.
        self._unparsed = b""
        #: Whether the connection waited too long for admission: its request is refused.
        self.is_late = False
        #: A time of the `AwakeClock`.
        self._idle_until = 0.0
        self._idle_timer: AwakeTimer | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request, or for the rest of its head."""
        return self.serving_task is None and not self._is_closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_address(transport)
        if self._owner.connection_made(self):
            # The client may never send a request.
            self._become_idle()
        else:
            self.close_with_linger(self._handlers.no_room(self.peer))

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._unparsed += data
        elif (
            self._has_slot
            or self.serving_task is not None
            or self._request_parser.incomplete_body is not None
        ):
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
        """Note that the client has finished sending. Return whether a request is still to be answered."""
        self._peer_is_done = True
        if self._unparsed:
            return True
        self._end_reading()
        return self.serving_task is not None

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this after each body, and then goes through its parser and the transport. Usually
        # nothing was paused, so the call would waste a twentieth of the cost of a request.
        if self._reading_paused and self.transport is not None:
            super().resume_reading(resume_parser)

    def _is_between_requests(self) -> bool:
        return self.serving_task is None and self._request_parser.incomplete_body is None

    def admit(self) -> None:
        """Process the data that waited for admission."""
        self._has_slot = True
        self._parse_waiting()

    def refuse_late(self) -> None:
        """Process the data that waited for admission, and refuse its request: see `is_late`."""
        self.is_late = True
        self._parse_waiting()

    def _parse_waiting(self) -> None:
        data_waiting, self._unparsed = self._unparsed, b""
        self._resume_reading_for_buffer()
        self._parse(data_waiting)
        if self._peer_is_done:
            self._end_reading()

    def release_slot(self) -> None:
        """Return the admission slot: from here on the request only waits."""
        if self._has_slot:
            self._has_slot = False
            self._admission.leave()

    def _parse(self, data: bytes) -> None:
        previous_body = self._request_parser.incomplete_body
        if self._is_closing and previous_body is None:
            if self.serving_task is None:
                self.release_slot()
            return
        requests = self._request_parser.read(data)
        if previous_body is not None and self._request_parser.incomplete_body is not previous_body:
            self.leave_queue()
        if not requests:
            self._wait_for_more()
            return
        self._unanswered += requests
        if self.serving_task is None:
            self.serving_task = self._loop.create_task(self._serve())
            if self._request_parser.incomplete_body is None or requests[0][1].is_eof():
                self.leave_queue()
            else:
                self.queue_as_sending()
        if len(self._unanswered) >= MAX_PIPELINED and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _wait_for_more(self) -> None:
        """Release the slot when the data completed no head."""
        self.is_late = False
        if self._is_between_requests():
            self.release_slot()
            if self._request_parser.head_size:
                self.queue_as_sending()
            else:
                self.queue_in(self._queues.idle)

    def _end_reading(self) -> None:
        """Stop reading: a request that is incomplete stays incomplete."""
        has_begun = self._request_parser.head_size
        self._request_parser.end(ConnectionResetError("the client has finished sending"))
        if self.is_idle:
            if has_begun:
                self.send(self._handlers.malformed(self.peer))
            self.close_after_flush()

    async def _serve(self) -> None:
        """Answer the received requests in order."""
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
                # Only now: while the body of a request is arriving, the parser would miscount.
                self._unanswered.popleft()
                assert self._parser is not None  # noqa: S101 - the connection is open
                self._parser.message_consumed()
                if self._buffer_paused:
                    self._resume_parsing()
        except Exception as error:  # noqa: BLE001 - a request that failed is not started again
            self._handlers.defect(error)
            self.close_after_flush()
        finally:
            self.serving_task = None
            if self.transport is None:
                self._owner.remove(self)
            elif not self._is_closing:
                self._become_idle()

    async def _answer(self, head: RequestHead, content: StreamReader) -> bool:
        """Answer a request. Return whether another request may follow."""
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
            keep_alive = await discard_rest(content)
        return keep_alive and not self._is_closing and self.transport is not None

    def _encode(self, answer: Answer, head: RequestHead, *, keep_alive: bool) -> bytes:
        with_body = head.method != "HEAD"
        return encode_answer(answer, keep_alive=keep_alive, version=head.version, with_body=with_body)

    def _malformed_answer(self) -> bytes:
        handlers = self._handlers
        return (handlers.head_too_long if self._request_parser.is_head_too_long else handlers.malformed)(
            self.peer
        )

    def _resume_parsing(self) -> None:
        """Continue to parse when few enough requests are unanswered."""
        if len(self._unanswered) > MAX_PIPELINED // 2:
            return
        self._parse(b"")
        if len(self._unanswered) < MAX_PIPELINED:
            self._resume_reading_for_buffer()

    def _become_idle(self) -> None:
        if self._request_parser.head_size:
            self.queue_as_sending()
        elif self._queue is None:
            # The common case: the same as `queue_in`, without the call.
            self._queue = self._queues.idle
            self._queue[self] = None
        else:
            self.queue_in(self._queues.idle)
        self._idle_until = self._loop.time() - self._clock.stopped + self._idle_timeout
        if self._idle_timer is None:
            self._idle_timer = self._clock.call_later(self._idle_timeout, self._check_idle)

    def _check_idle(self) -> None:
        # One timer serves many requests: it is restarted when it fires too early.
        self._idle_timer = None
        if self.serving_task is not None:
            return
        left = self._idle_timeout if self._unparsed else self._idle_until - self._clock.time()
        if left > 0:
            self._idle_timer = self._clock.call_later(left, self._check_idle)
        else:
            self.close_after_flush()

    def evict(self) -> None:
        """Close the connection now, to make room for another one."""
        is_closing = self._queue is self._queues.closing
        self.leave_queue()
        self._is_closing = self._is_evicted = True
        if is_closing:
            self.abort()
        elif self.serving_task is not None:
            self._request_parser.end(EvictedError("closed to make room"))
        else:
            if self._request_parser.head_size:
                self.send(self._handlers.no_room(self.peer))
            self.close_after_flush()

    def waiting_seconds(self) -> float:
        """Return for how many seconds the connection has been idle or sending."""
        since = (
            self._idle_until - self._idle_timeout if self._queue is self._queues.idle else self._sending_since
        )
        return self._clock.time() - since

    def close(self) -> None:
        """Accept no more requests, and close after the current answer."""
        if self.is_idle:
            self.close_after_flush()
        self._is_closing = True

    def _close_after_last(self, head: RequestHead) -> None:
        """Close the connection after its last answer."""
        if head.should_close or self._peer_is_done or self._is_evicted:
            self.close_after_flush()
        else:
            self._request_parser.end(ConnectionResetError("the connection is closing"))
            self.close_with_linger()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._unanswered.clear()
        super().connection_lost(exc)
        # The parser refers to the connection: without this line, the reference cycle would stay until the
        # garbage collector finds it.
        self._parser = None
        self._request_parser.close(exc or ConnectionResetError("the connection was closed"))
        if self.serving_task is None:
            self.release_slot()
            self._owner.remove(self)
