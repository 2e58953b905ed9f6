"""The circuit breaker of a destination: stops attempts while it is down, and probes until it is back. Pure.

    closed ──5 events failed, no success between them──▶ open ──time is up──▶ one probe ──success──▶ closed
                                                          ▲                       │
                                                          └──── twice as long ────┘ failure

A poison event is one that the destination can't process. It fails again and again although the destination is
up. Four rules keep poison events from looking like an outage:

- Only the first failure of an event counts. Further failures of the same event say nothing new.
- Any success resets the count and closes an open breaker.
- A breaker that opens again soon after a success closed it was probably wrong. Each time, the number of
  failures that opens it doubles. The number decreases again while the breaker stays closed.
- While there are failures, `suspects_poison` makes the lane take events from both ends of its backlog. One
  end soon reaches events that the destination can process.

A failure says something about the destination, not about one event: no reply, a reply that is not HTTP, 5xx,
408, 425, 429, or a redirect. A destination that refuses an event (other 4xx) is up. An event that can't be
turned into a request says nothing about the destination.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from gatehouse.errors import OutcomeReason

_UP: frozenset[OutcomeReason] = frozenset(("ok", "rejected", "gone"))
#: How many failed events are remembered. The next failure of a forgotten event counts again.
_MAX_REMEMBERED: Final = 10_000
#: The largest number of failures that opens a breaker, however often it was wrong.
_MAX_THRESHOLD: Final = 1024
#: After this many failures without a success, the failures may come from single events.
_SUSPECT_AFTER: Final = 2


class BreakerSettings(msgspec.Struct, frozen=True):
    """When a breaker opens, and for how long (seconds)."""

    failures: int = 5
    first: float = 30.0
    longest: float = 60.0


class Breaker:
    """The circuit breaker of one destination."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        #: The most recent events that failed.
        self._failed: dict[str, None] = {}
        #: How many events failed for the first time since the last success.
        self._failures = 0
        self._open_for = 0.0
        self._probe_at = 0.0
        self._probing = False
        self._opened_at = self._closed_at = -math.inf
        #: The raised number of failures that opens the breaker, and when it was raised.
        self._raised_to = 0
        self._raised_at = 0.0
        #: True while there have been no failures for so long that `suspects_poison` is certainly false.
        self.healthy = True

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open, so that only probes start."""
        return self._open_for > 0

    @property
    def failures(self) -> int:
        """How many events failed for the first time since the last success, without probes."""
        return self._failures

    @property
    def opened_at(self) -> float:
        """When it last opened."""
        return self._opened_at

    @property
    def probe_at(self) -> float:
        """When the next probe may start, or could have started if one is in progress."""
        return self._probe_at

    def suspects_poison(self, now: float) -> bool:
        """Return whether recent failures may come from single events, so that others should be tried."""
        if self._failures >= _SUSPECT_AFTER or now - self._closed_at < self._settings.longest:
            return True
        self.healthy = not self._failures
        return False

    def delay(self, now: float) -> float:
        """Return the seconds until an attempt may start; infinite while a probe is in progress."""
        if not self.is_open:
            return 0.0
        return math.inf if self._probing else max(0.0, self._probe_at - now)

    def hasten_probe(self, now: float) -> None:
        """Let the next probe start now. A probe that is in progress stays the only one."""
        self._probe_at = min(self._probe_at, now)

    def admit(self, now: float) -> bool:
        """Return whether an attempt may start now. While `is_open`, that attempt is the probe."""
        if not self._open_for:
            self._probing = False
            return True
        if self.delay(now) > 0:
            return False
        self._probing = True
        return True

    def observe(self, reason: OutcomeReason, now: float, *, probe: bool, event: str | None = None) -> None:
        """Learn the outcome of an admitted attempt. `event` is the id of what was sent, if known."""
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
            # While the breaker is open, failed attempts had started before it opened.
            if not self.is_open and self._failures >= self._threshold(now):
                self._opened_at = now
                self._open(now)

    def _succeeded_while_open(self, now: float) -> None:
        """Learn from a success that arrives while the breaker is open."""
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
        """Return how many failures open it. The raised number halves with each `longest` that passes."""
        halved = int((now - self._raised_at) / self._settings.longest)
        return max(self._settings.failures, self._raised_to >> min(halved, 64))

    def _open(self, now: float) -> None:
        self._open_for = min(self._open_for * 2 or self._settings.first, self._settings.longest)
        self._probe_at = now + self._open_for
