"""Counts pending and dead deliveries in memory, so that a scrape runs no SQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.base import Counts
    from gatehouse.telemetry.metric_types import Gauge
    from gatehouse.telemetry.metrics import DestinationMetrics


class Snapshot(NamedTuple):
    """The state of a gauge when a count began."""

    changes: int
    number: int
    emptied: int


class CountedGauge:
    """A gauge that knows its value, and whether the value changed since a count began."""

    def __init__(self, gauge: Gauge, *, shared: bool = False) -> None:
        self._gauge = gauge
        #: Whether other processes change the value too, so that only a count of the store is exact.
        self._shared = shared
        self._number = 0
        self._changes = 0
        #: How often a change made it zero.
        self.emptied = 0

    @property
    def number(self) -> int:
        """The value that the gauge shows."""
        return self._number

    def add(self, change: int) -> None:
        """Add a change."""
        self._changes += 1
        # Written out: each event calls this twice.
        self._number = self._gauge.value = number = self._number + change
        if number <= 0:
            self.emptied += 1

    def snapshot(self) -> Snapshot:
        """Begin a count. Pass the snapshot to `reconcile`."""
        return Snapshot(self._changes, self._number, self.emptied)

    def reconcile(self, snapshot: Snapshot, number: int) -> None:
        """Use the counted number, unless a change during the count may be missing in it.

        If other processes change the number too, the own value drifts. The changes during the count are then
        added, so they count twice at most until the next count.
        """
        if snapshot.changes == self._changes:
            self._set(number)
        elif self._shared:
            self._set(max(0, number + self._number - snapshot.number))

    def _set(self, number: int) -> None:
        self._number = number
        self._gauge.set(number)


class DestinationGauges:
    """The gauges of one destination."""

    def __init__(
        self,
        metrics: DestinationMetrics,
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
        held: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        """`held` returns when the events of the pending deliveries in memory were received (Unix seconds)."""
        self.pending = CountedGauge(metrics.pending, shared=shared)
        self.dead = CountedGauge(metrics.dead, shared=shared)
        self._clock = clock
        self._held = held
        #: When the oldest event of the deliveries that only the store has was received, as far as is known.
        self._oldest_stored: float | None = None
        #: It is valid until the number of pending deliveries becomes zero again.
        self._valid_for = 0
        metrics.oldest_pending_age.compute = self._age

    def oldest_pending(self) -> float | None:
        """Return when the event of the oldest pending delivery was received (Unix seconds); None without any.

        This is exact while all pending deliveries are in memory. Otherwise the oldest one may have been
        delivered since the last count.
        """
        number = self.pending.number
        if number <= 0:
            return None
        held = self._held()
        stored = self._oldest_stored if self._valid_for == self.pending.emptied else None
        if stored is None or len(held) >= number:
            return min(held, default=stored)
        return min((stored, *held))

    def stored(self, received: float) -> None:
        """Note a pending delivery that only the store has. `received` is when its event was received."""
        if self._valid_for != self.pending.emptied:
            self._oldest_stored, self._valid_for = received, self.pending.emptied
        elif self._oldest_stored is None or received < self._oldest_stored:
            self._oldest_stored = received

    def snapshot(self) -> tuple[Snapshot, Snapshot]:
        """Begin a count. Pass the snapshots to `reconcile`."""
        return self.pending.snapshot(), self.dead.snapshot()

    def reconcile(self, snapshot: tuple[Snapshot, Snapshot], counts: Counts | None) -> None:
        """Use the numbers that the store counted."""
        pending, dead = snapshot
        self.pending.reconcile(pending, counts.pending if counts else 0)
        self.dead.reconcile(dead, counts.dead if counts else 0)
        oldest = counts.oldest_pending if counts else None
        # What was counted may be delivered since, and what was not counted may be new.
        if pending.emptied == self.pending.emptied and (oldest is not None or not self.pending.number):
            self._oldest_stored, self._valid_for = oldest, pending.emptied

    def _age(self) -> float:
        oldest = self.oldest_pending()
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)
