"""The circuit breaker of a destination: spares one that is down, and finds out when it is back. Pure.

    closed ──5 events failed, and none succeeded between──▶ open ──time is up──▶ one probe ──success──▶ closed
                                                             ▲                       │
                                                             └──── twice as long ────┘ failure

An event that the destination cannot process ("poison") fails again and again although the destination is
up. Four rules keep such events from being taken for an outage:

- Only the first failure of an event counts. A failure of one that failed before says nothing new.
- Any success starts the count anew, and closes an open breaker.
- A breaker that opens again soon after a success had closed it was probably wrong. Each time, the next run of
  failures has to be twice as long to open it. That wears off while the breaker does not open.
- While failures are seen, `is_suspicious` tells the lane to take events from both ends of what waits: one of
  them reaches events that the destination can process.

What counts as a failure says something about the destination, not about one event: no answer at all, an
answer that is not HTTP, 5xx, 408, 425, 429, and a redirect. A destination that refuses an event (other 4xx)
is up. An event that we could not make a request of says nothing either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from gatehouse.errors import OutcomeReason

_UP: frozenset[OutcomeReason] = frozenset(("ok", "rejected", "gone"))
#: Of how many events it is remembered that they failed. One that is forgotten counts once more.
_MAX_REMEMBERED: Final = 10_000
#: The longest run of failures that a breaker waits for, however often it was wrong.
_MAX_THRESHOLD: Final = 1024
#: So many failures without a success between are suspicious.
_SUSPECT_AFTER: Final = 2


class BreakerSettings(msgspec.Struct, frozen=True):
    """When a breaker opens, and for how long (seconds)."""

    failures: int = 5
    first: float = 30.0
    longest: float = 60.0


class Breaker:
    """The breaker of one destination."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        #: Events that failed, the last ones.
        self._failed: dict[str, None] = {}
        #: How many events failed for the first time since the last success.
        self._failures = 0
        self._open_for = 0.0
        self._probe_at = 0.0
        self._probing = False
        self._opened_at = self._closed_at = -math.inf
        #: How long a run has to be after the breaker was wrong, and when it was.
        self._raised_to = 0
        self._raised_at = 0.0
        #: Whether no failure was seen for so long that there is nothing to be suspicious of.
        self.healthy = True

    @property
    def is_open(self) -> bool:
        """Whether the destination is spared, probes aside."""
        return self._open_for > 0

    @property
    def failures(self) -> int:
        """How many events failed for the first time since the last success, probes aside."""
        return self._failures

    @property
    def opened_at(self) -> float:
        """When it opened last."""
        return self._opened_at

    @property
    def probe_at(self) -> float:
        """When the next probe may start, or the one under way might have."""
        return self._probe_at

    def suspects_poison(self, now: float) -> bool:
        """Tell whether failures may be those of single events, so that others should be tried between."""
        if self._failures >= _SUSPECT_AFTER or now - self._closed_at < self._settings.longest:
            return True
        self.healthy = not self._failures
        return False

    def delay(self, now: float) -> float:
        """Return how long until an attempt may start; infinite while a probe is under way."""
        if not self.is_open:
            return 0.0
        return math.inf if self._probing else max(0.0, self._probe_at - now)

    def admit(self, now: float) -> bool:
        """Let an attempt start, or not. While `is_open`, one that may start is the probe."""
        if not self._open_for:
            self._probing = False
            return True
        if self.delay(now) > 0:
            return False
        self._probing = True
        return True

    def observe(self, reason: OutcomeReason, now: float, *, probe: bool, event: str | None = None) -> None:
        """Learn what an admitted attempt came to. `event` names what was attempted; None: nothing known."""
        if reason in _UP:
            if self._failed and event is not None:
                self._failed.pop(event, None)
            if self._open_for:
                self._succeeded_while_open(now)
            self._failures, self._open_for, self._probing = 0, 0.0, False
        elif reason == "unsendable":
            self._probing = self._probing and not probe
        elif probe:
            self._is_first_failure(event)
            self._probing = False
            self._open(now)
        elif self._is_first_failure(event):
            self._failures += 1
            self.healthy = False
            # While open, what fails was started before: it is no news.
            if not self.is_open and self._failures >= self._threshold(now):
                self._opened_at = now
                self._open(now)

    def _succeeded_while_open(self, now: float) -> None:
        """Learn from a success while it is open."""
        if self._opened_at - self._closed_at < self._settings.longest:
            self._raised_to = min(2 * max(self._threshold(now), self._failures), _MAX_THRESHOLD)
            self._raised_at = now
        self._closed_at = now

    def _is_first_failure(self, event: str | None) -> bool:
        if event is None:
            return True
        if event in self._failed:
            return False
        if len(self._failed) >= _MAX_REMEMBERED:
            del self._failed[next(iter(self._failed))]
        self._failed[event] = None
        return True

    def _threshold(self, now: float) -> int:
        """Return how many failures open it: halved with each `longest` since it was last wrong."""
        halved = int((now - self._raised_at) / self._settings.longest)
        return max(self._settings.failures, self._raised_to >> min(halved, 64))

    def _open(self, now: float) -> None:
        self._open_for = min(self._open_for * 2 or self._settings.first, self._settings.longest)
        self._probe_at = now + self._open_for
