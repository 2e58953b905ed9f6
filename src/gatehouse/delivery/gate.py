"""Whether an attempt may start: what the breaker, the rate and an operator say, together."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from gatehouse.delivery.breaker import Breaker
from gatehouse.delivery.pace import Pace
from gatehouse.delivery.retry import listed

if TYPE_CHECKING:
    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import Outcome, OutcomeReason
    from gatehouse.metrics import DestinationMetrics

#: The rate is no reason to leave a delivery in the store when it may start within this time (seconds).
_SOON = 1.0


class Gate:
    """The gate of one destination."""

    def __init__(self, destination: Destination, metrics: DestinationMetrics) -> None:
        self._metrics = metrics
        self._settings = destination.breaker
        self._breaker = Breaker(self._settings)
        self._pace = Pace(destination.rate) if destination.rate else None
        self._retry_on = destination.retry_on
        self._paused = False
        self._retired = False
        #: What the destination was let be for, when it is.
        self.last_failure: OutcomeReason = "connect"

    @property
    def paused(self) -> bool:
        """Whether an operator has the destination paused."""
        return self._paused

    def pause(self) -> None:
        """Let nothing start until `resume`."""
        self._paused = True
        self._metrics.paused.set(1)

    def resume(self) -> None:
        """Let attempts start again, at once: whoever says so knows better than the breaker does."""
        self._paused = False
        self._metrics.paused.set(0)
        self._breaker = Breaker(self._settings)
        self._metrics.breaker_open.set(0)

    def retire(self) -> None:
        """Leave the gauges to the destination's next gate, if it gets one."""
        self._metrics.breaker_open.set(0)
        self._metrics.paused.set(0)
        self._retired = True

    @property
    def breaker_open(self) -> bool:
        """Whether the destination is let be, probes aside."""
        return self._breaker.is_open

    def delay(self) -> float:
        """Return how long until an attempt may start; infinite when something else has to happen first."""
        if self._paused:
            return math.inf
        now = time.monotonic()
        delay = self._breaker.delay(now)
        return delay if self._pace is None else max(delay, self._pace.delay(now) - _SOON)

    def admit(self) -> bool:
        """Let an attempt start, or not. While `breaker_open`, one that may start is the probe."""
        return not self._paused and self._breaker.admit(time.monotonic())

    async def turn(self) -> None:
        """Wait until the rate lets something start."""
        if self._pace is not None:
            while (delay := self._pace.delay(time.monotonic())) > 0:  # noqa: ASYNC110 - time is the event
                await asyncio.sleep(delay)

    def count(self, events: int) -> None:
        """Count events that start now against the rate."""
        if self._pace is not None:
            self._pace.take(time.monotonic(), events)

    def observe(self, outcome: Outcome, *, probe: bool) -> bool:
        """Learn what a POST came to. True: whether the destination is let be may have changed."""
        was_open = self._breaker.is_open
        if outcome.reason != "ok":
            self.last_failure = outcome.reason
        final = listed(self._retry_on, outcome.http_status) == "final"
        # A status that is final by `retry_on` is about the event: the destination is up.
        reason: OutcomeReason = "rejected" if final else outcome.reason
        self._breaker.observe(reason, time.monotonic(), probe=probe)
        if not self._retired and (was_open or self._breaker.is_open):
            self._metrics.breaker_open.set(self._breaker.is_open)
            return True
        return False
