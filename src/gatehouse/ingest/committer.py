"""Commits events in groups: requests that arrive during a commit share the next one.

Three limits apply: the number of waiting requests, the bytes that they hold, and the time that each may
wait. Beyond a limit the provider gets 503 and sends again. A request that got 503 because it waited too long
is not written later.

The `Reviver` retries dead deliveries when a provider sends their event again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from gatehouse.errors import StoreError, UnavailableError
from gatehouse.events.event import pack
from gatehouse.store.base import Delivery
from gatehouse.store.batch import Batcher
from gatehouse.telemetry.live import EventSeen, Hub
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatehouse.store.base import Arrival, Receipt, Store
    from gatehouse.telemetry.metrics import Metrics

    _Submitted = tuple[Sequence[Arrival], float]

MAX_BATCH = 64
#: Seconds until the next commit, after a commit that several requests shared; see `Batcher`.
PAUSE = 0.002
MAX_WAITING = 1000
MAX_WAITING_BYTES = 64 * 1024 * 1024
#: Seconds between two revivals of a delivery. A provider that keeps sending, or a captured request that
#: somebody replays, must not keep a dead delivery alive.
REVIVE_INTERVAL: Final = 60.0


class DeliveryReceiver(Protocol):
    """What the committer needs of the dispatcher."""

    def delivery_stored(self, destination: str, received: float) -> None:
        """Count a new pending delivery that only the store holds, so that its lane leases it.

        `received` is when its event was received (Unix seconds).
        """

    def hand_over(self, delivery: Delivery) -> None:
        """Take a new delivery that is already leased to this process."""


class Disk(Protocol):
    """What the committer needs of the watch on the store's disk."""

    @property
    def is_low(self) -> bool:
        """Whether the disk has no room for new events."""


class Committer:
    """Commits arrivals in batches and hands their deliveries to the dispatcher."""

    def __init__(
        self,
        store: Store,
        handover: DeliveryReceiver,
        metrics: Metrics,
        *,
        deadline: float,
        disk: Disk | None = None,
        live: Hub | None = None,
    ) -> None:
        """`disk` is the disk of the store, when the store is on this machine."""
        self._store = store
        self._handover = handover
        self._metrics = metrics
        self._deadline = deadline
        self._disk = disk
        self._live = live or Hub()
        self._batcher: Batcher[_Submitted, Sequence[Receipt]] = Batcher(
            self._commit, limit=MAX_BATCH, at_once=MAX_WAITING // MAX_BATCH + 1, pause=PAUSE
        )
        self._waiting = 0
        self._waiting_bytes = 0
        self._expiring: deque[tuple[float, asyncio.Future[Sequence[Receipt]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def set_deadline(self, deadline: float) -> None:
        """Set how long new requests may wait for their commit (seconds)."""
        self._deadline = deadline

    def check_room(self) -> None:
        """Raise `UnavailableError` when no more requests may wait, or when the disk is full."""
        if self._disk is not None and self._disk.is_low:
            raise UnavailableError("no room on the disk; send again later", reason="disk")
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("overloaded; send again later", reason="overloaded")

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        """Commit the events of one request: all of them or none.

        Raises `UnavailableError` when the gateway is overloaded, or when the store is unavailable or too
        slow.
        """
        size = 0
        for arrival in arrivals:
            size += len(arrival.event.body)
        # The disk was checked at the start of the request: see `check_room`.
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise UnavailableError("overloaded; send again later", reason="overloaded")
        self._waiting += 1
        self._waiting_bytes += size
        try:
            deadline = time.monotonic() + self._deadline
            future = self._batcher.submit((arrivals, deadline))
            self._expiring.append((deadline, future))
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._deadline, self._expire)
            return await future
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    async def drain(self) -> None:
        """Wait until no commit is in progress."""
        await self._batcher.drain()

    async def _commit(self, batch: Sequence[_Submitted]) -> list[Sequence[Receipt]]:
        arrivals = [arrival for submitted, _ in batch for arrival in submitted]
        deadline = min([deadline for _, deadline in batch])
        started = time.monotonic()
        try:
            receipts = await self._store.accept(arrivals, deadline=deadline)
        except StoreError as error:
            get_logger().error("store.unavailable", error=str(error), events=len(arrivals))
            raise UnavailableError("the store is unavailable; send again later", reason="store") from error
        self._metrics.commit_duration.observe(time.monotonic() - started)
        self._metrics.commit_batch.observe(len(arrivals))
        self._deliver(arrivals, receipts)
        if self._live.active:
            self._publish(arrivals, receipts)
        return _by_request(batch, receipts)

    def _deliver(self, arrivals: Sequence[Arrival], receipts: Sequence[Receipt]) -> None:
        for arrival, receipt in zip(arrivals, receipts, strict=True):
            if receipt.status != "accepted" or arrival.reply is not None:
                continue
            event, until, token = arrival.event, receipt.leased_until, receipt.token
            for assignment in arrival.assignments:
                name = assignment.destination
                if assignment.leased and name not in receipt.held:
                    self._handover.hand_over(Delivery(event, name, 0, until, token=token))
                else:
                    self._handover.delivery_stored(name, event.received)

    def _publish(self, arrivals: Sequence[Arrival], receipts: Sequence[Receipt]) -> None:
        """Show the new events to those who watch."""
        with_body = self._live.keeps_bodies
        seen = [
            EventSeen(
                (event := arrival.event).id,
                event.source,
                event.type,
                event.external_id,
                event.subject,
                event.account,
                event.received,
                tuple([assignment.destination for assignment in arrival.assignments]),
                pack(event) if with_body else None,
            )
            for arrival, receipt in zip(arrivals, receipts, strict=True)
            if receipt.status == "accepted"
        ]
        self._live.publish_events(seen)

    def _expire(self) -> None:
        # One timer for the oldest request is enough: requests expire in order of arrival.
        self._timer = None
        now = time.monotonic()
        while self._expiring and (self._expiring[0][1].done() or self._expiring[0][0] <= now):
            _, future = self._expiring.popleft()
            if not future.done():
                error = UnavailableError("the store is too slow; send again later", reason="commit_deadline")
                future.set_exception(error)
        if self._expiring:
            delay = max(0.0, self._expiring[0][0] - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)


def _by_request(batch: Sequence[_Submitted], receipts: Sequence[Receipt]) -> list[Sequence[Receipt]]:
    parts, start = [], 0
    for arrivals, _ in batch:
        end = start + len(arrivals)
        parts.append(receipts[start:end])
        start = end
    return parts


class LaneWaker(Protocol):
    """What the reviver needs of the dispatcher."""

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        """Note that this many deliveries became due."""


class RevivingStore(Protocol):
    """What the reviver needs of the store."""

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        """Make the dead deliveries of these events due again. Return their number by destination."""


class Reviver:
    """Retries dead deliveries. The pipeline calls it only for verified requests."""

    def __init__(self, store: RevivingStore, dispatcher: LaneWaker) -> None:
        self._store = store
        self._dispatcher = dispatcher

    async def revive(self, duplicates: Iterable[tuple[Arrival, Receipt]], now: float) -> int:
        """Retry the dead deliveries of duplicate events. Return how many deliveries are retried.

        Only destinations that the routes select today are retried. Raises `UnavailableError`; then the
        provider has to send the event again.
        """
        events = {
            receipt.event_id: [assignment.destination for assignment in arrival.assignments]
            for arrival, receipt in duplicates
            if receipt.dead is not None and receipt.dead <= now - REVIVE_INTERVAL
        }
        if not any(events.values()):
            return 0
        try:
            revived = await self._store.revive(events, now=now, asked_before=now - REVIVE_INTERVAL)
        except StoreError as error:
            get_logger().error("store.unavailable", error=str(error), events=len(events))
            raise UnavailableError("the store is unavailable; send again later", reason="store") from error
        for name, number in revived.items():
            self._dispatcher.wake(name, pending=number, dead=-number)
        return sum(revived.values())
