"""Merges the streams of all workers into one, for the clients of the supervisor.

The supervisor reads each worker's stream once, whatever the number of clients, and publishes what it reads in
a hub of its own. Its clients resume from positions in that hub. When a worker has restarted, its stream
resumes too, and the store shows what it accepted before it ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from gatehouse.language.times import parse_time
from gatehouse.operator.stream.catching_up import PastEvent
from gatehouse.operator.stream.entries import EventShown
from gatehouse.operator.stream.wanted import NO_BOOT, Position, Wanted
from gatehouse.telemetry.live import MAX_ENTRIES, AttemptSeen, EventSeen, Hub, LeftOut, RequestSeen
from gatehouse.workers.process import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from gatehouse.workers.process import WorkerProcess

#: Seconds for which an entry may be on its way from a worker to the supervisor.
LATE: Final = 10.0
#: Seconds until the streams of all workers are there. A worker that takes longer is not waited for.
_READY_WITHIN: Final = 2.0
#: Seconds before the supervisor asks a worker again.
_PAUSE: Final = 0.1
#: Seconds from now: stored events are not younger.
_FUTURE: Final = 3600.0
_PATH: Final = "/api/v1/stream?"
_ALL: Final = f"{_PATH}bodies=1&envelope=1"
_decode_event = msgspec.json.Decoder(EventShown).decode
#: The decoder for the data of each kind.
_DECODERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "request": msgspec.json.Decoder(RequestSeen).decode,
    "event": _decode_event,
    "attempt": msgspec.json.Decoder(AttemptSeen).decode,
    "left_out": msgspec.json.Decoder(LeftOut).decode,
}


class Block(NamedTuple):
    """A server-sent event of a worker. Without data it only tells the position."""

    position: str
    kind: str
    data: bytes


def parse_block(block: bytes) -> Block | None:
    """Parse a server-sent event; None for a mere comment."""
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line[1:])
    if b"id" not in fields:
        return None
    return Block(fields[b"id"].decode(), fields.get(b"event", b"").decode(), fields.get(b"data", b""))


class WorkersFeed:
    """Publishes what all workers do in the hub of the supervisor."""

    def __init__(self, hub: Hub, workers: Sequence[WorkerProcess]) -> None:
        self._hub = hub
        self._workers = workers
        self._following: list[asyncio.Task[None]] = []
        self._ready: list[asyncio.Event] = []
        self._since = 0.0
        #: The ids of the latest events, in order.
        self._known: dict[str, None] = {}

    async def start(self) -> None:
        """Follow the workers. Returns when the hub gets what happens from now on."""
        if not self._following:
            self._since = self._hub.clock()
            self._ready = [asyncio.Event() for worker in self._workers if worker.is_serving]
            waiting = iter(self._ready)
            self._following = [
                asyncio.create_task(
                    self._follow(worker, next(waiting) if worker.is_serving else None), name="stream"
                )
                for worker in self._workers
            ]
        ready = [asyncio.create_task(event.wait()) for event in self._ready]
        if ready:
            _, late = await asyncio.wait(ready, timeout=_READY_WITHIN)
            for task in late:
                task.cancel()

    async def stop(self) -> None:
        """Follow the workers no more."""
        following, self._following = self._following, []
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        self._known.clear()

    async def _follow(self, worker: WorkerProcess, ready: asyncio.Event | None) -> None:
        # A worker that starts later is followed from the beginning, and not only from the connection on.
        beginning = str(Position.at(self._since))
        last = None if ready is not None else beginning
        while True:
            if worker.is_serving:
                try:
                    async for raw in worker.client.blocks(_ALL, after=last):
                        block = parse_block(raw)
                        if block is None:
                            continue
                        self._publish(block, tell_unknown=last != beginning)
                        last = block.position
                        if ready is not None:
                            ready.set()
                except NoAnswerError:
                    pass
            await asyncio.sleep(_PAUSE)

    def _publish(self, block: Block, *, tell_unknown: bool) -> None:
        if block.kind not in _DECODERS:
            return
        seen = _DECODERS[block.kind](block.data)
        if isinstance(seen, EventShown):
            received = parse_time(seen.received) or 0.0
            if self._is_new(seen.id, received, block.position):
                self._hub.publish_events([_event_seen(seen, received)])
        elif isinstance(seen, AttemptSeen):
            self._hub.publish("attempt", seen)
        elif isinstance(seen, RequestSeen):
            self._hub.publish("request", seen)
        elif seen.count is not None or tell_unknown:
            self._hub.publish("left_out", seen)

    def _is_new(self, event_id: str, received: float, position: str) -> bool:
        """Tell whether an event is new. All workers show the same stored events."""
        if event_id in self._known:
            return False
        found = Position.parse(position)
        is_stored = found is not None and found.boot == NO_BOOT
        if is_stored and received < self._since:
            return False
        while len(self._known) >= 2 * MAX_ENTRIES:
            del self._known[next(iter(self._known))]
        self._known[event_id] = None
        return True


def _event_seen(shown: EventShown, received: float) -> EventSeen:
    return EventSeen(
        shown.id,
        shown.source,
        shown.type,
        shown.external_id,
        shown.subject,
        shown.account,
        received,
        shown.destinations,
        body_base64=shown.body_base64,
        envelope_base64=shown.envelope_base64,
    )


class WorkersPast:
    """Reads stored events through one of the workers, because all of them have the same store."""

    def __init__(self, hub: Hub, workers: Sequence[WorkerProcess]) -> None:
        self._hub = hub
        self._workers = workers

    async def events(
        self, wanted: Wanted, since: float, until: float | None
    ) -> AsyncIterator[list[PastEvent]]:
        """Yield events one by one, from old to new. Raises `NoAnswerError`."""
        end = self._hub.clock() + _FUTURE if until is None else until
        query = {
            "kinds": "event",
            "since": f"{max(0.0, since):.3f}",
            "until": f"{max(0.0, end):.3f}",
            "bodies": str(int(wanted.bodies)),
            "envelope": str(int(wanted.envelope)),
            "source": wanted.source,
            "type": wanted.type,
            "destination": wanted.destination,
        }
        given = {name: value for name, value in query.items() if value is not None}
        worker = next((worker for worker in self._workers if worker.is_serving), None)
        if worker is None:
            raise NoAnswerError("no worker serves")
        async for raw in worker.client.blocks(_PATH + urlencode(given)):
            block = parse_block(raw)
            position = None if block is None else Position.parse(block.position)
            if block is None or position is None or block.kind != "event":
                continue
            event = _decode_event(block.data)
            yield [PastEvent(event.id, position.ms / 1000, block.data)]
