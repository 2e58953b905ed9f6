"""How many deliveries are pending and dead, kept in memory so that a scrape runs no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from gatehouse.metrics import DestinationMetrics
    from gatehouse.store.base import Counts


class Tally:
    """A gauge that knows its number, and whether it changed since someone began to count."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._number = 0
        self._changes = 0

    @property
    def number(self) -> int:
        """The number that the gauge shows."""
        return self._number

    def add(self, change: int) -> None:
        """Count something that happened."""
        self._changes += 1
        self._set(self._number + change)

    def mark(self) -> int:
        """Begin a count; hand the mark to `settle`."""
        return self._changes

    def settle(self, mark: int, number: int) -> None:
        """Take over what was counted, unless something happened meanwhile that the count may have missed."""
        if mark == self._changes:
            self._set(number)

    def _set(self, number: int) -> None:
        self._number = number
        self._gauge.set(number)


class DestinationGauges:
    """The gauges of one destination."""

    def __init__(self, metrics: DestinationMetrics) -> None:
        self.pending = Tally(metrics.pending)
        self.dead = Tally(metrics.dead)
        self._age = metrics.oldest_pending_age

    def mark(self) -> tuple[int, int]:
        """Begin a count; hand the mark to `settle`."""
        return self.pending.mark(), self.dead.mark()

    def settle(self, mark: tuple[int, int], counts: Counts | None, now: float) -> None:
        """Take over what the store counted."""
        pending, dead = mark
        self.pending.settle(pending, counts.pending if counts else 0)
        self.dead.settle(dead, counts.dead if counts else 0)
        oldest = counts.oldest_pending if counts else None
        self._age.set(0.0 if oldest is None else max(0.0, now - oldest))
