"""The base class of a connection: sends, closes, and queues for admission and for eviction.

Under overload, each request that the gateway starts delays the others, until all of them are too late and
nothing is accepted. So `Admission` limits how many requests are processed at once. A request that waits
there costs almost nothing: its bytes are received but not parsed.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.streams import StreamReader

    from gatehouse.ingest.awake_clock import AwakeClock, AwakeTimer

#: Seconds for which a connection discards further input after its last answer, so that the client can read
#: the answer before the connection closes.
LINGER: Final = 2.0


#: A connection that is younger (in seconds) may be about to send its request.
NEW_CONNECTION_AGE: Final = 1.0
#: Allows a few full commits at once. With more requests, one iteration of the event loop takes too long.
MAX_ACTIVE: Final = 512
#: Seconds after which a waiting request is refused: with its commit, it would take more than one second.
MAX_WAIT: Final = 0.5
#: How many late requests are refused in one iteration of the event loop. A thousand refusals at once would
#: delay the requests that are on time.
_REFUSALS_AT_ONCE: Final = 64


class EvictionQueues:
    """The connections that can be closed when new ones need room.

    Each queue is ordered: the oldest entry goes first. Idle connections are closed before connections that
    are sending a request. There is one exception: under a flood of slow senders, an idle connection that has
    only just been opened is spared.
    """

    def __init__(self) -> None:
        #: Connections without a request in progress.
        self.idle: dict[BaseConnection, None] = {}
        #: Connections that have sent an answer and wait until the client has read it or has stopped sending.
        self.closing: dict[BaseConnection, None] = {}
        #: Connections whose request has arrived only in part.
        self.sending: dict[BaseConnection, None] = {}

    def evict_one(self) -> bool:
        """Close one connection. Return whether there was one to close."""
        idle, sending = next(iter(self.idle), None), next(iter(self.sending), None)
        if idle and sending and idle.waiting_seconds() < NEW_CONNECTION_AGE <= sending.waiting_seconds():
            idle = None
        connection = idle or next(iter(self.closing), None) or sending
        if connection is not None:
            connection.evict()
        return connection is not None


class BaseConnection(BaseProtocol):
    """A connection without a protocol: `Connection` adds the requests and answers."""

    __slots__ = (
        "_abort_timer",
        "_clock",
        "_idle_timeout",
        "_is_closing",
        "_is_evicted",
        "_peer_is_done",
        "_queue",
        "_queues",
        "_sending_since",
        "peer",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, queues: EvictionQueues, clock: AwakeClock, idle_timeout: float
    ) -> None:
        super().__init__(loop)
        self._queues = queues
        self._clock = clock
        #: Seconds that the connection may be idle, and that an answer may stay unread.
        self._idle_timeout = idle_timeout
        #: The address of the client.
        self.peer: str | None = None
        #: Whether the connection accepts no more requests.
        self._is_closing = False
        #: Whether the client has finished sending. It may still wait for answers.
        self._peer_is_done = False
        #: Whether the connection was closed to make room. Then it waits for nothing more.
        self._is_evicted = False
        #: The eviction queue that holds the connection; None while its request is processed.
        self._queue: dict[BaseConnection, None] | None = None
        #: When the client started to send the current request.
        self._sending_since = 0.0
        #: Aborts the connection when the client does not read what was sent.
        self._abort_timer: AwakeTimer | None = None

    @abstractmethod
    def evict(self) -> None:
        """Close the connection now, to make room for another one."""

    @abstractmethod
    def waiting_seconds(self) -> float:
        """Return for how many seconds the connection has been idle or sending."""

    def queue_as_sending(self) -> None:
        """Add the connection to the sending queue; keep its position if it is already there."""
        if self._queue is not self._queues.sending:
            self._sending_since = self._clock.time()
            self.queue_in(self._queues.sending)

    def queue_in(self, queue: dict[BaseConnection, None]) -> None:
        """Add the connection to the end of a queue; keep its position if it is already there."""
        if queue is not self._queue:
            if self._queue is not None:
                del self._queue[self]
            self._queue = queue
            queue[self] = None

    def leave_queue(self) -> None:
        """Remove the connection from its queue, if it is in one."""
        queue, self._queue = self._queue, None
        if queue is not None:
            del queue[self]

    def send(self, data: bytes) -> None:
        """Send data. Does nothing when the connection is closed."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read most of the data that was sent."""
        self.queue_in(self._queues.closing)
        with suppress(ConnectionError):
            await self._drain_helper()
        self.leave_queue()

    def close_after_flush(self) -> None:
        """Close the connection when the client has read what was sent, or after the timeout."""
        self._is_closing = True
        self.leave_queue()
        if self.transport is not None:
            self.transport.close()
            # The transport keeps an open socket until the client has read the rest of the answer.
            if self.transport.get_write_buffer_size():
                if self._is_evicted:
                    self.abort()
                else:
                    self._abort_after(self._idle_timeout)
                    self.queue_in(self._queues.closing)

    def close_with_linger(self, last: bytes = b"") -> None:
        """Send the last data, then discard input for a while before the connection closes: see `LINGER`."""
        self._is_closing = True
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.queue_in(self._queues.closing)
        transport.write(last)
        if transport.can_write_eof():
            transport.write_eof()
        self._resume_transport_reading()
        self._abort_after(self._idle_timeout if transport.get_write_buffer_size() else LINGER)

    def abort(self) -> None:
        """Close the connection now and discard unsent data."""
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_after(self._idle_timeout)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._is_closing:
            self._cancel_abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._is_closing = True
        self._cancel_abort()
        self.leave_queue()
        super().connection_lost(exc)

    def _abort_after(self, seconds: float) -> None:
        self._cancel_abort()
        self._abort_timer = self._clock.call_later(seconds, self.abort)

    def _cancel_abort(self) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None


async def discard_rest(content: StreamReader) -> bool:
    """Discard the rest of a body, within `LINGER` seconds. Return whether the body is complete."""
    try:
        async with asyncio.timeout(LINGER):
            while not content.is_eof():
                await content.readany()
    except (OSError, aiohttp.ClientPayloadError, HttpProcessingError) as error:
        # The stream keeps the exception: a reference cycle, as in `Connection.connection_lost`.
        error.__traceback__ = None
    return content.is_eof()


class WaitingConnection(Protocol):
    """A connection with data that is not parsed yet."""

    def admit(self) -> None:
        """Process the received data."""

    def refuse_late(self) -> None:
        """Answer the received data with 503."""


class Admission:
    """Limits how many requests are processed at once. The others wait, first in, first out."""

    def __init__(
        self, clock: Callable[[], float], max_active: int = MAX_ACTIVE, max_wait: float = MAX_WAIT
    ) -> None:
        self._clock = clock
        self._max_active = max_active
        self._max_wait = max_wait
        self._active = 0
        self._is_admitting = False
        self._waiting: deque[tuple[float, WaitingConnection]] = deque()
        self._late: deque[WaitingConnection] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> bool:
        """Take a slot if one is free; `leave` returns it. Without a slot, the caller calls `wait`."""
        if self._active >= self._max_active or self._waiting:
            return False
        self._active += 1
        return True

    def wait(self, connection: WaitingConnection) -> None:
        """Queue a connection until it is admitted, or refused because it has waited too long."""
        self._waiting.append((self._clock() + self._max_wait, connection))
        if self._timer is None:
            self._schedule_check(self._max_wait)

    def leave(self) -> None:
        """Return a slot, and admit the next waiting connection."""
        self._active -= 1
        if self._waiting and not self._is_admitting:
            # A closed connection leaves at once, inside `admit`. The flag turns this recursion into a loop:
            # a thousand closed connections would exceed the recursion limit.
            self._is_admitting = True
            try:
                self._admit_next()
            finally:
                self._is_admitting = False

    def _admit_next(self) -> None:
        self._collect_late()
        while self._waiting and self._active < self._max_active:
            self._active += 1
            self._waiting.popleft()[1].admit()

    def _collect_late(self) -> None:
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            self._late.append(self._waiting.popleft()[1])

    def _schedule_check(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        """Refuse late requests. The timer is needed because a stalled store can hold all slots."""
        self._timer = None
        self._collect_late()
        for _ in range(min(_REFUSALS_AT_ONCE, len(self._late))):
            self._late.popleft().refuse_late()
        if self._late:
            self._schedule_check(0)
        elif self._waiting:
            self._schedule_check(max(0.0, self._waiting[0][0] - self._clock()))
