"""The way of a request, top to bottom: handshake or verify, read, route, relay or commit, answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gatehouse.event import UNREADABLE
from gatehouse.ingest.answer import Answer, committed
from gatehouse.store.base import Arrival, Assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.event import Event, ReadEvent
    from gatehouse.ingest.handshakes import Greeter
    from gatehouse.metrics import SourceMetrics
    from gatehouse.source import Source
    from gatehouse.store.base import Receipt
    from gatehouse.verify.base import Request, Verification


class Accepting(Protocol):
    """What the pipeline needs of the committer."""

    def check_room(self) -> None:
        """Raise `UnavailableError` when no more requests may wait."""

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        """Commit all of them in one transaction, or raise `UnavailableError`."""


class Preparing(Protocol):
    """What the pipeline needs of who fetches the keys that providers publish."""

    async def prepare(self, source: str, verification: Verification, request: Request) -> None:
        """Get the keys that verifying this request needs, or raise `UnavailableError`."""


class Relaying(Protocol):
    """What the pipeline needs of who forwards events within their requests."""

    async def accept(self, arrival: Arrival, *, now: float, within: float) -> Receipt:
        """Forward and commit; the receipt has the reply. Raises `RelayFailedError`, `UnavailableError`."""


class Pipeline:
    """Takes a request from its raw bytes to its answer."""

    def __init__(
        self,
        committer: Accepting,
        has_room: Callable[[str], bool],
        clock: Callable[[], float],
        greeter: Greeter,
        remote_keys: Preparing,
        relay: Relaying,
    ) -> None:
        self._committer = committer
        self._greeter = greeter
        self._remote_keys = remote_keys
        self._relay = relay
        self._has_room = has_room
        self._clock = clock

    async def receive(self, source: Source, metrics: SourceMetrics, request: Request) -> Answer:
        """Answer a request. Raises `RequestRejectedError` for the answers that are errors."""
        # First of all: under overload no time goes into requests that would be refused in the end.
        self._committer.check_room()
        # Stores keep milliseconds: an event has to read the same before and after a restart.
        now = int(self._clock() * 1000) / 1000
        if source.handshakes and (greeting := self._greeter.before_verification(source, request, now)):
            return greeting
        source.check_ready()
        if source.verification.remote:
            await self._remote_keys.prepare(source.name, source.verification, request)
        verified = source.verification.verify(request, now)
        if source.handshakes and (greeting := await self._greeter.after_verification(source, verified, now)):
            return greeting
        read = source.reader.read(verified, now, source.kept_headers(request.headers))
        arrivals = [
            Arrival(one.event, one.keys, now + source.window, self._assign(source, one)) for one in read
        ]
        receipts: Sequence[Receipt]
        if source.relay_within and arrivals[0].assignments:
            # Forwarded here and now: its provider is answered with the destination's reply.
            receipts = [await self._relay.accept(arrivals[0], now=now, within=source.relay_within)]
        else:
            receipts = await self._committer.accept(arrivals) if arrivals else ()
        events = [one.event for one in read]
        _count(metrics, events, receipts, now)
        return committed(events, receipts, source.settings.answers, as_batch=source.splits)

    def _assign(self, source: Source, read: ReadEvent) -> tuple[Assignment, ...]:
        has_room, names = self._has_room, source.route(read.event.type)
        if not source.orders:
            return tuple([Assignment(name, has_room(name)) for name in names])
        key = source.order_key
        return tuple([Assignment(name, has_room(name), key(name, read.scope)) for name in names])


def _count(metrics: SourceMetrics, events: Sequence[Event], receipts: Sequence[Receipt], now: float) -> None:
    stored = [event for event, receipt in zip(events, receipts, strict=True) if receipt.status == "accepted"]
    if not stored:
        return
    metrics.events.inc(len(stored))
    metrics.last_accepted.set(now)
    unreadable = sum(event.type == UNREADABLE for event in stored)
    if unreadable:
        metrics.unreadable.inc(unreadable)
