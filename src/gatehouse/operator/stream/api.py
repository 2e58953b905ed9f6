"""Answers requests for the stream."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import HttpVersion11, hdrs, web

from gatehouse.errors import GatewayError
from gatehouse.operator.queries import BadQueryError, StreamStart, stream_start
from gatehouse.operator.request_types import StreamQuery
from gatehouse.operator.responses import error_answer
from gatehouse.operator.route_docs import describe_route
from gatehouse.operator.stream.catching_up import CatchingUp, CaughtUp
from gatehouse.operator.stream.connection import Connection, Reader
from gatehouse.operator.stream.entries import GOODBYE, HELLO, UNAVAILABLE
from gatehouse.operator.stream.readers import Readers

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.operator.stream.catching_up import Past
    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.telemetry.live import Hub
    from gatehouse.telemetry.metrics import ProcessMetrics

#: The most clients at a time.
MAX_READERS: Final = 500
#: Seconds between two heartbeats. Proxies usually close a connection after a minute without data.
HEARTBEAT: Final = 15.0
#: Seconds for which entries are kept when nobody reads, so that a reader who comes back misses nothing.
_LINGER: Final = 600.0
_TYPE: Final = "text/event-stream"
_HEADERS: Final = {
    hdrs.CONTENT_TYPE: _TYPE,
    hdrs.CACHE_CONTROL: "no-store",
    # Tells nginx not to collect the stream before it passes it on.
    "X-Accel-Buffering": "no",
}


class Feed(Protocol):
    """What fills a hub that is not filled by the gateway itself."""

    async def start(self) -> None:
        """Fill the hub. Returns when it gets what happens from now on, if that is possible."""

    async def stop(self) -> None:
        """Fill the hub no more."""


class StreamApi:
    """The stream of one hub: `GET /api/v1/stream`."""

    def __init__(
        self,
        hub: Hub,
        past: Past,
        metrics: ProcessMetrics,
        *,
        overlap: Callable[[], float] = lambda: 0.0,
        late: float = 1.0,
        feed: Feed | None = None,
        counted: bool = True,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        """`overlap` returns how long after its receipt an event may be committed (seconds).

        `late` is how long after its commit it may come through the hub. `counted` is False when the readers
        are not clients but a supervisor.
        """
        self._hub = hub
        self._past = past
        self._metrics = metrics
        self._overlap = overlap
        self._late = late
        self._feed = feed
        self._counted = counted
        self._heartbeat = heartbeat
        self._readers = Readers(hub, metrics)
        self._open: dict[asyncio.Task[object], Connection | None] = {}
        self._deactivation: asyncio.TimerHandle | None = None
        #: Stops the feed after nobody has read for a while.
        self._feed_stop: asyncio.Task[None] | None = None
        self._is_stopping = False

    def routes(self) -> list[web.RouteDef]:
        """Return the route, for the operator server."""
        return [web.get("/api/v1/stream", self._show_stream)]

    async def stop(self) -> None:
        """End all streams at once."""
        self._is_stopping = True
        await self._readers.stop()
        for task, connection in list(self._open.items()):
            if connection is None or not connection.has_ended:
                # It catches up, and may wait for the store or for the client.
                task.cancel()
            if connection is not None:
                connection.end(GOODBYE)
        if self._deactivation is not None:
            self._deactivation.cancel()
        if self._feed is not None:
            await self._feed.stop()

    @describe_route("Stream", {200: _TYPE}, query=StreamQuery)
    async def _show_stream(self, request: web.Request) -> web.StreamResponse:
        """Show requests, events and attempts while they happen, as server-sent events.

        `event:` is the kind, and `data:` a JSON object with the time `at` and:

        - `request`: `source`, `outcome`, `status`, `reason`, `client`, `duration_ms`, `event_ids`, and the
          `type` of the first event.
        - `event`, a new event: `id`, `source`, `type`, `external_id`, `subject`, `account`, `received`,
          `destinations`, and what `bodies` and `envelope` add.
        - `attempt`: `event_id`, `source`, `type`, `external_id`, `destination`, `number`, `reason`,
          `http_status`, `duration_ms`, `error`, `status` (of the delivery after the attempt: `pending`,
          `delivered` or `dead`; `null` for a relayed request, whose event is stored after a success) and
          `next` (when the delivery is attempted again; `null` if never, or while the destination is paused).
        - `left_out`: `count` entries of all kinds are missing here, because the client read too slowly, or
          was away for too long. `null`: the gateway was restarted, and does not know how many.

        A client that comes back sends the `id` of its last entry as `Last-Event-ID`. It gets what it missed.
        After a restart these are the events only, from the store. Some may come twice: compare their `id`.
        An `id` without `data` only updates the position. A comment comes every 15 seconds.

        `since` starts with stored events. With `until` too, the stream ends after them.
        """
        try:
            start = stream_start(request.query, request.headers.get("Last-Event-ID"), self._hub.clock())
        except BadQueryError as error:
            return error_answer(400, "bad_request", error.message)
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=_HEADERS)
        if self._is_stopping or len(self._open) >= MAX_READERS:
            return error_answer(503, "unavailable", "too many clients read the stream; try again later")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._begin(task, start.wanted)
        try:
            return await self._answer(request, start, task)
        finally:
            self._end(task)

    def _begin(self, task: asyncio.Task[object], wanted: Wanted) -> None:
        self._open[task] = None
        self._count()
        if self._deactivation is not None:
            self._deactivation.cancel()
        self._hub.activate(bodies=wanted.bodies or wanted.envelope)

    def _end(self, task: asyncio.Task[object]) -> None:
        del self._open[task]
        self._count()
        if not self._open and not self._is_stopping:
            self._deactivation = asyncio.get_running_loop().call_later(_LINGER, self._deactivate)

    def _count(self) -> None:
        if self._counted:
            self._metrics.stream_readers.set(len(self._open))

    def _deactivate(self) -> None:
        self._hub.deactivate()
        if self._feed is not None:
            self._feed_stop = asyncio.create_task(self._feed.stop(), name="stream")

    async def _answer(
        self, request: web.Request, start: StreamStart, task: asyncio.Task[object]
    ) -> web.StreamResponse:
        if self._feed is not None and start.until is None:
            if self._feed_stop is not None:
                # A stop that has begun would also stop what a start begins now.
                await asyncio.wait([self._feed_stop])
            await self._feed.start()
        response = web.StreamResponse(headers=_HEADERS)
        hub_next = self._hub.next
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response  # the client has left
        connection = Connection(transport, chunked=request.version >= HttpVersion11)
        self._open[task] = connection
        with suppress(ConnectionError):
            await response.write(HELLO)
            try:
                await self._send(response, connection, start, hub_next)
            except GatewayError:
                await response.write(UNAVAILABLE)
        return response

    async def _send(
        self, response: web.StreamResponse, connection: Connection, start: StreamStart, hub_next: int
    ) -> None:
        catching_up = CatchingUp(self._past, self._hub, start.wanted, response.write)
        if start.until is not None and start.since is not None:
            await catching_up.until(start.since, start.until)
            return
        hub, loop = self._hub, asyncio.get_running_loop()
        view = self._readers.view(start.wanted)
        try:
            reader = Reader(connection, view, hub, hub_next, self._heartbeat, loop.time())
            since = self._resume(reader, start)
            if since is not None and "event" in start.wanted.kinds:
                there = await catching_up.to_hub(since, self._overlap())
                self._skip(reader, there, loop.time())
            connection.write(reader.here()) if not reader.is_behind else None
            self._readers.add(reader, self._heartbeat)
            try:
                await reader.ended
            finally:
                self._readers.remove(reader)
        finally:
            self._readers.release(view)

    def _resume(self, reader: Reader, start: StreamStart) -> float | None:
        """Set the position. Returns since when stored events are missing (Unix seconds)."""
        hub, after = self._hub, start.after
        if after is None:
            return start.since
        following = after.number + 1
        same = after.boot == hub.boot and following <= hub.next
        kept_from = hub.kept_for(bodies=start.wanted.bodies or start.wanted.envelope)
        if same and following >= kept_from:
            reader.position = following
            return None
        reader.position = kept_from
        is_limited = start.wanted.at_most is not None
        if is_limited or start.wanted.kinds - {"event"}:
            count = kept_from - following if same else None
            self._metrics.stream_left_out.inc(count or 0)
            reader.connection.write(reader.left_out(count))
        if is_limited:
            return None
        return after.ms / 1000 - self._overlap()

    def _skip(self, reader: Reader, there: CaughtUp, now: float) -> None:
        reader.skip(events_before=there.events_before, known=there.known, until=now + self._late)
