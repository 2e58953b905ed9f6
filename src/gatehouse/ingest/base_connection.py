"""The base of a connection: it sends, it closes, and it waits in the queues for admission and eviction.

Under overload, each request that the gateway starts makes the others later, until all of them are too late
and nothing is accepted. So `Admission` limits how many requests are processed at once. A request that waits
there costs almost nothing: its bytes are read but not parsed.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp.base_protocol import BaseProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.ingest.awake_clock import AwakeClock, AwakeTimer

#: Seconds for which what still comes after the last answer is thrown away, so that its sender gets to see it.
LINGER: Final = 2.0


#: Seconds for which somebody who has just connected may be on the way to send a request.
NEW_FOR: Final = 1.0


class EvictionQueues:
    """Who makes room for new connections; in each line whoever came first goes first.

    Whoever is idle goes before whoever is sending. But under a flood of slow senders, somebody who has only
    just connected is not to go for them.
    """

    def __init__(self) -> None:
        #: Those that have nothing to do.
        self.idle: dict[BaseConnection, None] = {}
        #: Those that are answered, and have to take it or to stop sending.
        self.closing: dict[BaseConnection, None] = {}
        #: Those of whose request more has to arrive.
        self.sending: dict[BaseConnection, None] = {}

    def evict_one(self) -> bool:
        """Let one go. Returns whether there was one."""
        idle, sending = next(iter(self.idle), None), next(iter(self.sending), None)
        if idle and sending and idle.waiting_seconds() < NEW_FOR <= sending.waiting_seconds():
            idle = None
        one = idle or next(iter(self.closing), None) or sending
        if one is not None:
            one.evict()
        return one is not None


class BaseConnection(BaseProtocol):
    """A connection, without what it is for."""

    __slots__ = (
        "_abort_timer",
        "_clock",
        "_is_closing",
        "_is_evicted",
        "_patience",
        "_peer_is_done",
        "_queue",
        "_queues",
        "_sending_since",
        "peer",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, queues: EvictionQueues, clock: AwakeClock, patience: float
    ) -> None:
        super().__init__(loop)
        self._queues = queues
        self._clock = clock
        #: Seconds for which it may be idle, and for which an answer may lie there unread.
        self._patience = patience
        #: The address of the other end.
        self.peer: str | None = None
        #: Whether no more requests are taken.
        self._is_closing = False
        #: Whether the other end sends nothing more. It may still wait for answers.
        self._peer_is_done = False
        #: Whether others need its place: it goes without waiting for anything.
        self._is_evicted = False
        #: Where it stands; nowhere while it is worked for.
        self._queue: dict[BaseConnection, None] | None = None
        #: Since when it has been sending, if it is.
        self._sending_since = 0.0
        #: Ends it although the other end has not taken all that was sent to it.
        self._abort_timer: AwakeTimer | None = None

    @abstractmethod
    def evict(self) -> None:
        """Go at once, for others."""

    @abstractmethod
    def waiting_seconds(self) -> float:
        """Return for how many seconds it has been idle, or sending."""

    def queue_as_sending(self) -> None:
        """Stand among those who are sending, since now or before."""
        if self._queue is not self._queues.sending:
            self._sending_since = self._clock.time()
            self.queue_in(self._queues.sending)

    def queue_in(self, queue: dict[BaseConnection, None]) -> None:
        """Stand at the end of a line, or stay in it."""
        if queue is not self._queue:
            if self._queue is not None:
                del self._queue[self]
            self._queue = queue
            queue[self] = None

    def leave_queue(self) -> None:
        """Leave the line, if it stands in one."""
        queue, self._queue = self._queue, None
        if queue is not None:
            del queue[self]

    def send(self, data: bytes) -> None:
        """Send; a peer that is gone takes nothing more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the other end has taken most of what was sent to it."""
        self.queue_in(self._queues.closing)
        with suppress(ConnectionError):
            await self._drain_helper()
        self.leave_queue()

    def close_after_flush(self) -> None:
        """Go as soon as the other end has taken what was sent to it; see `patience`."""
        self._is_closing = True
        self.leave_queue()
        if self.transport is not None:
            self.transport.close()
            # With some of an answer left it would stay until that is taken.
            if self.transport.get_write_buffer_size():
                if self._is_evicted:
                    self.abort()
                else:
                    self._abort_after(self._patience)
                    self.queue_in(self._queues.closing)

    def close_with_linger(self, last: bytes = b"") -> None:
        """Send the last, and throw away what still comes for a while: see `LINGER`."""
        self._is_closing = True
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.queue_in(self._queues.closing)
        transport.write(last)
        if transport.can_write_eof():
            transport.write_eof()
        self._resume_transport_reading()
        self._abort_after(self._patience if transport.get_write_buffer_size() else LINGER)

    def abort(self) -> None:
        """Go at once, whatever has not been taken."""
        if self.transport is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_after(self._patience)

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


#: Enough for a few full commits to be under way; with more, a turn of the event loop takes ever longer.
MAX_ACTIVE: Final = 512
#: Seconds of waiting after which a request is refused: its commit would take it past the second it has.
MAX_WAIT: Final = 0.5
#: How many are refused in one turn of the event loop. A thousand at once would make late what is on time.
_REFUSALS_AT_ONCE: Final = 64


class Waiting(Protocol):
    """A connection that has sent something."""

    def admit(self) -> None:
        """Go on with what was sent."""

    def refuse_late(self) -> None:
        """Answer 503 to what was sent."""


class Admission:
    """Lets requests in: as many as may be worked on, in the order they came."""

    def __init__(
        self, clock: Callable[[], float], most: int = MAX_ACTIVE, patience: float = MAX_WAIT
    ) -> None:
        self._clock = clock
        self._most = most
        self._patience = patience
        self._busy = 0
        self._is_admitting = False
        self._waiting: deque[tuple[float, Waiting]] = deque()
        self._late: deque[Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> bool:
        """Take a place, to be given back with `leave`. Whoever gets none waits with `wait`."""
        if self._busy >= self._most or self._waiting:
            return False
        self._busy += 1
        return True

    def wait(self, one: Waiting) -> None:
        """Have it admitted when its turn comes, with a place, or refused when it is late."""
        self._waiting.append((self._clock() + self._patience, one))
        if self._timer is None:
            self._schedule_check(self._patience)

    def leave(self) -> None:
        """Give a place back, to the next one if there is any."""
        self._busy -= 1
        if self._waiting and not self._is_admitting:
            # One that is gone leaves at once. In a loop: a thousand of them in turn would be too deep a nest.
            self._is_admitting = True
            try:
                self._admit_next()
            finally:
                self._is_admitting = False

    def _admit_next(self) -> None:
        self._collect_late()
        while self._waiting and self._busy < self._most:
            self._busy += 1
            self._waiting.popleft()[1].admit()

    def _collect_late(self) -> None:
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            self._late.append(self._waiting.popleft()[1])

    def _schedule_check(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        """Refuse what is late, also when nothing leaves: a store that stalls keeps every place."""
        self._timer = None
        self._collect_late()
        for _ in range(min(_REFUSALS_AT_ONCE, len(self._late))):
            self._late.popleft().refuse_late()
        if self._late:
            self._schedule_check(0)
        elif self._waiting:
            self._schedule_check(max(0.0, self._waiting[0][0] - self._clock()))
