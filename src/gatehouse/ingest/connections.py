"""The connections of providers: how many there are, and what one of them may cost.

aiohttp bounds the lines of a head and their number, but not the head; how much of a body waits to be read,
but not how long an answer waits to be taken; and not the number of connections.
"""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from aiohttp import web

from gatehouse.ingest.admission import Admission
from gatehouse.ingest.inbound import Inbound

if TYPE_CHECKING:
    import asyncio

MAX_HEADERS: Final = 64
#: Bytes of a request's head, from which on no more of it is waited for.
MAX_HEAD: Final = 32 * 1024
#: Seconds for which the rest of a refused body is thrown away, so that its sender gets to see the answer.
LINGER: Final = 2.0
#: File descriptors that are kept for the store, for destinations and for operators.
_RESERVED: Final = 512


class Answers(NamedTuple):
    """What is answered below HTTP."""

    #: For what is not HTTP as aiohttp understands it.
    malformed: Callable[[Inbound], web.StreamResponse]
    #: For a head that is too long: the bytes of the answer. It is given the peer's address.
    head_too_long: Callable[[str | None], bytes]
    #: For one connection too many: likewise.
    no_room: Callable[[str | None], bytes]


class Connections(web.Server):
    """Makes connections, and has the idle ones make room for new ones."""

    def __init__(
        self,
        handler: Callable[[Inbound], Awaitable[web.StreamResponse]],
        answers: Answers,
        *,
        most: int,
        idle_timeout: float,
    ) -> None:
        """`handler` has to call `done` of the connection, whatever becomes of the request."""
        super().__init__(
            cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", handler),
            request_factory=cast("Callable[..., web.BaseRequest]", Inbound),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=idle_timeout,
            lingering_time=LINGER,
            max_headers=MAX_HEADERS,
        )
        self._answers = answers
        self._admission = Admission(self._loop.time)
        self.most = most
        self._idle_timeout = idle_timeout

    def use(self, *, most: int, idle_timeout: float) -> None:
        """Allow this many connections and this much idleness (seconds) from the next connection on."""
        self.most, self._idle_timeout = most, idle_timeout
        self._kwargs["keepalive_timeout"] = idle_timeout

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self, self._answers, self._admission, self._idle_timeout, loop=self._loop, **self._kwargs
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection; one too many takes the place of one that has nothing to do."""
        super().connection_made(handler, transport)
        newcomer = cast("Connection", handler)
        newcomer.peer = _host(newcomer.peername)
        if len(self._connections) <= self.most:
            return
        for connection in cast("dict[Connection, object]", self._connections):
            if connection.is_idle:
                connection.force_close()
                return
        newcomer.refuse(self._answers.no_room(newcomer.peer))


class Connection(web.RequestHandler):
    """One connection: what of it aiohttp leaves unbounded."""

    __slots__ = (
        "_admission",
        "_answers",
        "_has_place",
        "_head",
        "_last_body",
        "_patience",
        "_stashed",
        "_unread",
        "is_late",
        "loop",
        "peer",
    )

    def __init__(
        self,
        server: Connections,
        answers: Answers,
        admission: Admission,
        patience: float,
        **settings: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(server, **settings)
        self.loop = self._loop
        #: The address of the other end.
        self.peer: str | None = None
        self._answers = answers
        self._admission = admission
        #: Seconds for which an answer may lie there unread.
        self._patience = patience
        self._has_place = False
        #: What came while it waited to be admitted.
        self._stashed = b""
        #: Whether it waited for too long: its request is to be refused.
        self.is_late = False
        #: Bytes of a head that is not complete.
        self._head = 0
        #: A body that did not come with its head.
        self._last_body: Any = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its head."""
        return self._waiter is not None and not self._waiter.done()

    async def start(self) -> None:
        transport = self.transport
        try:
            await super().start()
        finally:
            # It is closed, or about to be. With some of an answer left it would stay until that is taken.
            if transport is not None and transport.get_write_buffer_size():
                self._abort_unless_taken(transport)

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
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _begins_something(self) -> bool:
        body = self._last_body
        return not self._request_in_progress and not self._messages and (body is None or body.is_eof())

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
        before, body = self._request_count, self._last_body
        was_between_bodies = body is None or body.is_eof()
        super().data_received(data)
        if self._request_count == before:
            # What ends a body is no head.
            self._await_more(len(data) if was_between_bodies else 0)
            return
        self._head = 0
        body = self._messages[-1][1] if self._messages else None
        self._last_body = None if body is None or body.is_eof() else body

    def _await_more(self, size: int) -> None:
        """Look at what completed no head. Of a head itself it is `size` bytes, unless a body has begun."""
        self.is_late = False
        if self._begins_something():
            self.step_aside()
        if self._last_body is None or self._last_body.is_eof():
            self._head += size
            if self._head > MAX_HEAD and not self._force_close:
                self._refuse_head()

    def done(self) -> None:
        """Be ready for the next request: there is an answer to this one, or nobody to answer."""
        self.is_late = False
        self.step_aside()

    def _refuse_head(self) -> None:
        if self.is_idle:
            self.refuse(self._answers.head_too_long(self.peer))
        else:  # an earlier request is still to be answered, and this is no place for another answer
            self.close()

    def refuse(self, answer: bytes) -> None:
        """Answer, and take nothing more. What still comes is thrown away for a while: see `LINGER`."""
        transport = self.transport
        self._force_close = True
        if self._waiter:
            self._waiter.cancel()
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
        if not self._request_in_progress:
            self.step_aside()
        super().connection_lost(exc)

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        self.done()
        return self._answers.malformed(cast("Inbound", request))


def _host(peername: object) -> str | None:
    return str(peername[0]) if isinstance(peername, tuple) else None


def allowed_connections(wanted: int) -> int:
    """Return how many connections the limit on open files leaves room for; it is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVED
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    # Of a limit that is very low, half.
    return max(soft - _RESERVED, soft // 2)
