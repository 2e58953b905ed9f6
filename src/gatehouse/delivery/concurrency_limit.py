"""How many attempts of one destination may run at once, adapted to how the destination answers. Pure.

The limit starts at 16 and stays between 4 and 64. It may change after each window of outcomes:

- It grows by half if attempts used the whole limit, none met an overload, and replies took at most a quarter
  longer than at 16. An app that answers 64 requests as fast as 16 soon gets 64. An app that only lets the
  additional requests wait gets 16 again.
- It shrinks by a third if replies took 1.4 times as long as at 16, for half a second and two windows.
- It shrinks by up to half if the destination is overloaded: 429, 503, 504 or a timeout. It then stays for a
  while, longer each time, and grows by one after that. So an app that refuses what exceeds its own limit
  rarely has to refuse anything.
- It falls below 16 only for 429, which says that there are too many requests. Other failures may come from
  single events, which must not delay the others.
- Once a minute it returns to 16 for one window, to measure again how long replies take there.

All times are of a clock that never goes back (seconds).
"""

from __future__ import annotations

import math
import statistics
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatehouse.delivery.outcome import Outcome

#: The limit at the start, at which the usual latency is measured.
START: Final = 16
MOST: Final = 64
#: The lowest limit, after many 429.
LEAST: Final = 4

#: A window has at least this many outcomes, so that its median latency is no accident, and lasts this long.
_OUTCOMES, _SECONDS = 100, 0.1
#: Below the start, latencies are not compared, so fewer outcomes are enough.
_FEW_OUTCOMES: Final = 8
_GROWTH: Final = 1.5
#: Latencies as multiples of the usual one: up to the first the limit grows, from the second on it shrinks.
_FAST, _SLOW = 1.25, 1.4
#: So many slow windows in a row, over so many seconds, are no accident.
_SLOW_WINDOWS, _SLOW_SECONDS = 2, 0.5
#: Seconds without growth after the limit shrank because of the latency.
_SLOW_PAUSE: Final = 5.0
#: The share of outcomes that makes an overload. Fewer timeouts and 503 may have other causes.
_OVERLOADED: Final = 0.03
#: The share of 429 that takes the limit below the start.
_REFUSED: Final = 0.2
#: The least share of the limit that an overload takes away.
_LEAST_CUT: Final = 0.1
#: A window ends early if this share of the limit met an overload.
_ALARM: Final = 1 / 8
#: Seconds without growth after the first overload, and at most. Another overload soon after doubles it.
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 600.0
#: Seconds above the start after which the usual latency is measured again.
_REMEASURE: Final = 60.0

_OVERLOAD_STATUSES: Final = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class AdaptiveLimit:
    """The limit of one destination."""

    def __init__(self, now: float) -> None:
        self.value = START
        #: When the limit changed. Attempts that started before it say nothing about it.
        self._changed_at = -math.inf
        #: The median latency at the start.
        self._usual = 0.0
        #: When to measure it again: infinite while the limit is not above the start.
        self._remeasure_at = math.inf
        #: The limit before it returned to the start to measure, and the median latency there.
        self._resume: tuple[int, float] | None = None
        self._latency = 0.0
        #: How many windows in a row were slow, and when the first of them began.
        self._slow_windows, self._slow_since = 0, 0.0
        #: The limit does not grow before this.
        self._grow_at = -math.inf
        #: The pause after the last overload, and when it ends.
        self._pause, self._paused_until = 0.0, -math.inf
        self._begin(now)

    def observe(self, outcome: Outcome, now: float, *, reached: bool) -> bool:
        """Learn the outcome of an attempt. Returns whether the limit changed.

        `reached` says whether as many attempts were in progress as the limit allows.
        """
        if now - outcome.duration < self._changed_at:
            return False
        if now >= self._remeasure_at:
            self._resume = self.value, self._latency
            return self._set(START, now)
        self._outcomes += 1
        if reached:
            self._reached += 1
        if outcome.reason == "ok":
            self._latencies.append(outcome.duration)
        elif outcome.reason == "timeout" or outcome.http_status in _OVERLOAD_STATUSES:
            self._overloaded += 1
            self._refused += outcome.http_status == HTTPStatus.TOO_MANY_REQUESTS
            if self._overloaded >= self.value * _ALARM and self._outcomes >= self.value / 2:
                return self._set(self._decide(now), now)
        if self._outcomes >= self._size and now - self._began >= _SECONDS:
            return self._set(self._decide(now), now)
        return False

    def _set(self, value: int, now: float) -> bool:
        """Use this limit from now on, and begin a window. Returns whether the limit changed."""
        changed = value != self.value
        if changed:
            self.value, self._changed_at, self._slow_windows = value, now, 0
            if value <= START:
                self._remeasure_at = math.inf
            elif self._remeasure_at == math.inf:
                self._remeasure_at = now + _REMEASURE
        self._begin(now)
        return changed

    def _begin(self, now: float) -> None:
        self._began = now
        self._outcomes = self._reached = self._overloaded = self._refused = 0
        self._latencies: list[float] = []
        self._size = max(_OUTCOMES if self.value >= START else _FEW_OUTCOMES, 2 * self.value)

    def _decide(self, now: float) -> int:
        """Return the limit that follows from the window."""
        share = self._overloaded / self._outcomes
        if share >= _OVERLOADED:
            self._resume = None
            self._note_overload(now)
            floor = LEAST if self._refused >= _REFUSED * self._outcomes else START
            cut = int(self.value * (1 - max(_LEAST_CUT, share / 2)))
            return min(self.value, max(cut, floor))
        if self._overloaded:
            return self.value
        if self.value < START:
            return min(START, self._grown(now))
        if 2 * self._reached < self._outcomes or not self._latencies:
            return self.value  # no attempt had to wait, so nothing speaks for another limit
        return self._compare(statistics.median(self._latencies), now)

    def _note_overload(self, now: float) -> None:
        if now >= self._paused_until:
            again = now < self._paused_until + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) if again else _FIRST_PAUSE
        self._grow_at = self._paused_until = now + self._pause

    def _compare(self, latency: float, now: float) -> int:
        """Return what follows from the median latency of a window in which attempts used the whole limit."""
        if self.value == START:
            self._usual = latency
            if self._resume is not None:
                (limit, was), self._resume = self._resume, None
                if was < _SLOW * latency:
                    return limit
            return self._grown(now)
        self._latency = latency
        if latency >= _SLOW * self._usual:
            self._slow_since = self._slow_since if self._slow_windows else self._began
            self._slow_windows += 1
            if self._slow_windows < _SLOW_WINDOWS or now - self._slow_since < _SLOW_SECONDS:
                return self.value
            self._grow_at = max(self._grow_at, now + _SLOW_PAUSE)
            return max(START, int(self.value / _GROWTH))
        self._slow_windows = 0
        return self._grown(now) if latency <= _FAST * self._usual else self.value

    def _grown(self, now: float) -> int:
        if now < self._grow_at:
            return self.value
        if now < self._paused_until + self._pause:
            return min(MOST, self.value + 1)
        return min(MOST, math.ceil(self.value * _GROWTH))
