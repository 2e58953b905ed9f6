"""Counts pending and dead deliveries in memory, so that a scrape runs no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gatehouse.store.base import Counts
    from gatehouse.telemetry.metric_types import Gauge
    from gatehouse.telemetry.metrics import DestinationMetrics


class Snapshot(NamedTuple):
    """The state of a gauge when a count began."""

    changes: int
    number: int


class CountedGauge:
    """A gauge that knows its value, and whether the value changed since a count began."""

    def __init__(self, gauge: Gauge, *, shared: bool = False) -> None:
        self._gauge = gauge
        #: Whether other processes change the value too, so that only a count of the store is exact.
        self._shared = shared
        self._number = 0
        self._changes = 0

    @property
    def number(self) -> int:
        """The value that the gauge shows."""
        return self._number

    def add(self, change: int) -> None:
        """Add a change."""
        self._changes += 1
        self._set(self._number + change)

    def snapshot(self) -> Snapshot:
        """Begin a count. Pass the snapshot to `reconcile`."""
        return Snapshot(self._changes, self._number)

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

    def __init__(self, metrics: DestinationMetrics, *, shared: bool = False) -> None:
        self.pending = CountedGauge(metrics.pending, shared=shared)
        self.dead = CountedGauge(metrics.dead, shared=shared)
        self._age = metrics.oldest_pending_age
        self._oldest: float | None = None

    @property
    def oldest_pending(self) -> float | None:
        """When the oldest pending delivery was received, as counted last (Unix seconds); None without any."""
        return self._oldest if self.pending.number else None

    def snapshot(self) -> tuple[Snapshot, Snapshot]:
        """Begin a count. Pass the snapshots to `reconcile`."""
        return self.pending.snapshot(), self.dead.snapshot()

    def reconcile(self, snapshot: tuple[Snapshot, Snapshot], counts: Counts | None, now: float) -> None:
        """Use the numbers that the store counted."""
        pending, dead = snapshot
        self.pending.reconcile(pending, counts.pending if counts else 0)
        self.dead.reconcile(dead, counts.dead if counts else 0)
        self._oldest = oldest = counts.oldest_pending if counts else None
        self._age.set(0.0 if oldest is None else max(0.0, now - oldest))
