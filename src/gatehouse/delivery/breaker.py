"""Lets a destination that is down be, and finds out when it is back. Pure, the clock is passed in.

    closed ──5 failures in a row──▶ open ──time is up──▶ one probe ──success──▶ closed
                                     ▲                       │
                                     └──── twice as long ────┘ failure

What counts as a failure says something about the destination, not about one event: no answer at all, an
answer that is not HTTP, 5xx, 408, 425, 429, and a redirect. A destination that refuses an event (other 4xx)
is up. An event that we could not make a request of says nothing either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from gatehouse.delivery.outcome import OutcomeReason

_UP: frozenset[OutcomeReason] = frozenset(("ok", "rejected", "gone"))


class BreakerSettings(msgspec.Struct, frozen=True):
    """When a breaker opens, and for how long (seconds)."""

    failures: int = 5
    first: float = 30.0
    longest: float = 300.0


class Breaker:
    """The breaker of one destination."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._open_for = 0.0
        self._probe_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the destination is let be, probes aside."""
        return self._open_for > 0

    def delay(self, now: float) -> float:
        """Return how long until an attempt may start; infinite while a probe is under way."""
        if not self.is_open:
            return 0.0
        return math.inf if self._probing else max(0.0, self._probe_at - now)

    def admit(self, now: float) -> bool:
        """Let an attempt start, or not. While `is_open`, one that may start is the probe."""
        if self.delay(now) > 0:
            return False
        self._probing = self.is_open
        return True

    def observe(self, reason: OutcomeReason, now: float, *, probe: bool) -> None:
        """Learn what an admitted attempt came to."""
        if reason in _UP:
            self._failures, self._open_for, self._probing = 0, 0.0, False
        elif reason == "unsendable":
            self._probing = self._probing and not probe
        elif probe or not self.is_open:
            # While open, what fails was started before: it is no news.
            self._fail(now)

    def _fail(self, now: float) -> None:
        self._failures += 1
        self._probing = False
        if self._failures >= self._settings.failures:
            longer = self._open_for * 2 or self._settings.first
            self._open_for = min(longer, self._settings.longest)
            self._probe_at = now + self._open_for
