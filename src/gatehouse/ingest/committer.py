"""Group commit: requests that arrive while a commit is under way share the next one.

Bounded three ways: by how many requests wait, by how many bytes they hold, and by how long any of them waits.
Past a bound the provider gets 503 and sends again; what got 503 for waiting too long is not written later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from gatehouse.batch import Batcher
from gatehouse.errors import StoreError, UnavailableError
from gatehouse.log import get_logger
from gatehouse.store.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.metrics import Metrics
    from gatehouse.store.base import Arrival, Receipt, Store

MAX_BATCH = 64
MAX_WAITING = 1000
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Handover(Protocol):
    """What the committer needs of the dispatcher."""

    def accepted(self, destination: str) -> None:
        """Count a new pending delivery that is in the store only, and have its lane look there."""

    def hand_over(self, delivery: Delivery) -> None:
        """Take a new delivery, already leased to this process."""


class Committer:
    """Commits arrivals in batches and hands their deliveries over."""

    def __init__(
        self,
        store: Store,
        handover: Handover,
        metrics: Metrics,
        *,
        deadline: float,
        disk_is_low: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._handover = handover
        self._metrics = metrics
        self._deadline = deadline
        self._disk_is_low = disk_is_low
        self._batcher: Batcher[_Submission, Sequence[Receipt]] = Batcher(
            self._commit, limit=MAX_BATCH, at_once=MAX_WAITING // MAX_BATCH + 1
        )
        self._waiting = 0
        self._waiting_bytes = 0
        self._expiring: deque[tuple[float, asyncio.Future[Sequence[Receipt]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def use_deadline(self, deadline: float) -> None:
        """Let requests that come from now on wait for their commit this long (seconds)."""
        self._deadline = deadline

    def check_room(self, size: int = 0) -> None:
        """Raise `UnavailableError` when no more requests, or no `size` bytes more, may wait."""
        if self._disk_is_low():
            raise UnavailableError("no room on the disk; send again later", reason="disk")
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise UnavailableError("overloaded; send again later", reason="overloaded")

    async def accept(self, arrivals: Sequence[Arrival]) -> Sequence[Receipt]:
        """Commit one request's events; all or none of them.

        Raises `UnavailableError` when the gateway is overloaded, or the store unavailable or too slow.
        """
        size = sum([len(arrival.event.body) for arrival in arrivals])
        self.check_room(size)
        self._waiting += 1
        self._waiting_bytes += size
        try:
            deadline = time.monotonic() + self._deadline
            future = self._batcher.submit(_Submission(arrivals, deadline))
            self._expire_at(deadline, future)
            return await future
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    async def drain(self) -> None:
        """Wait until nothing is being committed."""
        await self._batcher.drain()

    async def _commit(self, batch: Sequence[_Submission]) -> list[Sequence[Receipt]]:
        arrivals = [arrival for submission in batch for arrival in submission.arrivals]
        started = time.monotonic()
        try:
            receipts = await self._store.accept(arrivals, deadline=min(s.deadline for s in batch))
        except StoreError as error:
            get_logger().error("store.unavailable", error=str(error), events=len(arrivals))
            raise UnavailableError("the store is unavailable; send again later", reason="store") from error
        self._metrics.commit_duration.observe(time.monotonic() - started)
        self._metrics.commit_batch.observe(len(arrivals))
        for arrival, receipt in zip(arrivals, receipts, strict=True):
            if receipt.status == "accepted" and arrival.reply is None:
                self._deliver(arrival, receipt)
        return _by_submission(batch, receipts)

    def _deliver(self, arrival: Arrival, receipt: Receipt) -> None:
        for assignment in arrival.assignments:
            if assignment.leased and assignment.destination not in receipt.held:
                delivery = Delivery(
                    arrival.event, assignment.destination, 0, receipt.leased_until, token=receipt.token
                )
                self._handover.hand_over(delivery)
            else:
                self._handover.accepted(assignment.destination)

    # One timer watches the oldest request: they expire in the order they came.

    def _expire_at(self, deadline: float, future: asyncio.Future[Sequence[Receipt]]) -> None:
        self._expiring.append((deadline, future))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._deadline, self._expire)

    def _expire(self) -> None:
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


class _Submission:
    """The events of one request, and by when (`time.monotonic()`) they have to be on disk."""

    __slots__ = ("arrivals", "deadline")

    def __init__(self, arrivals: Sequence[Arrival], deadline: float) -> None:
        self.arrivals = arrivals
        self.deadline = deadline


def _by_submission(batch: Sequence[_Submission], receipts: Sequence[Receipt]) -> list[Sequence[Receipt]]:
    parts, start = [], 0
    for submission in batch:
        end = start + len(submission.arrivals)
        parts.append(receipts[start:end])
        start = end
    return parts
