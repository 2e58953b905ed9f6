"""Spreads the events of an operation over time, so that they do not delay new events. Pure.

All times are of a clock that never goes back (seconds).
"""

from __future__ import annotations

from typing import Final

#: Seconds' worth of the rate in one step. A step is one transaction, and new events wait for it.
_STEP_SECONDS: Final = 0.1
#: The most events of one step.
_MOST: Final = 500
#: A destination may have this many replayed deliveries to catch up with, even if it is slow.
_LEAST_BACKLOG: Final = 50
#: Seconds over which the speed of a destination is measured. It may have as many deliveries to catch up with
#: as it delivers in a second.
_MEASURED: Final = 1.0


class Pacer:
    """Keeps to a rate of events per second. It makes up for a late step, but not for a pause."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._next = now
        #: How many events a step has.
        self.step_size = max(1, min(_MOST, int(rate * _STEP_SECONDS)))

    def delay(self, now: float) -> float:
        """Return the seconds until the next step may start; zero if it may start now."""
        return max(0.0, self._next - now)

    def took(self, now: float, events: int) -> None:
        """Count the events of a step that starts now."""
        late = min(max(0.0, now - self._next), _STEP_SECONDS)
        self._next = now - late + events / self._rate


class CatchingUp:
    """How many deliveries a destination may get before it has caught up with the earlier ones."""

    def __init__(self, pending: int, now: float) -> None:
        """`pending` is the number of pending deliveries before the first ones of the operation."""
        self._before = pending
        self._added = 0
        self._measured_at = now
        self._delivered = 0
        self._speed = 0.0

    def added(self, deliveries: int) -> None:
        """Count deliveries that became due."""
        self._added += deliveries

    def room(self, pending: int, now: float) -> int:
        """Return how many more deliveries may become due. `pending` is the number of pending ones now."""
        self._before = min(self._before, pending)
        waiting = pending - self._before
        if now - self._measured_at >= _MEASURED:
            delivered = self._added - waiting
            self._speed = (delivered - self._delivered) / (now - self._measured_at)
            self._measured_at, self._delivered = now, delivered
        return max(0, max(_LEAST_BACKLOG, int(self._speed)) - waiting)
