"""A token bucket: how soon the next attempt may start. Pure, the clock is passed in."""

from __future__ import annotations

#: What may start at once after a pause, in seconds' worth of the rate: enough to make up for a late timer.
_BURST = 0.1


class Pace:
    """Keeps starts under `rate` per second, evenly but for a burst of a tenth of a second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate * _BURST)
        self._tokens = self._size
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Return how long to wait for a token; zero when one is there."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def take(self, now: float, count: int = 1) -> None:
        """Take tokens, also more than there are: events that go together are waited for afterwards."""
        self._fill(now)
        self._tokens -= count

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
            self._at = now
