"""Decides whether an attempt may start: circuit breaker, rate limit and pause together."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from gatehouse.delivery.breaker import Breaker
from gatehouse.delivery.retry import retry_rule
from gatehouse.language.times import rfc3339
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.delivery.destination import Destination
    from gatehouse.delivery.outcome import Outcome
    from gatehouse.errors import OutcomeReason
    from gatehouse.telemetry.metrics import DestinationMetrics

#: Seconds: a delivery that the rate limit allows to start this soon need not stay in the store.
_SOON = 1.0


class Throttle:
    """The throttle of one destination."""

    def __init__(
        self, destination: Destination, metrics: DestinationMetrics, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns Unix time, for times that are displayed."""
        self._metrics = metrics
        self._clock = clock
        self._name = destination.name
        self._settings = destination.breaker
        self._breaker = Breaker(self._settings)
        self._rate_limit = RateLimit(destination.rate) if destination.rate else None
        self._retry_on = destination.retry_on
        self._paused = False
        self._retired = False

    @property
    def paused(self) -> bool:
        """Whether an operator paused the destination."""
        return self._paused

    def pause(self) -> None:
        """Start no attempts until `resume`."""
        self._paused = True
        self._metrics.paused.set(1)

    def resume(self) -> None:
        """Start attempts again at once. A person who resumes knows more than the circuit breaker."""
        self._paused = False
        self._metrics.paused.set(0)
        if self._breaker.is_open:
            self._log_closed(self._breaker)
        self._breaker = Breaker(self._settings)
        self._metrics.breaker_open.set(0)

    def hasten_probe(self) -> None:
        """Let the next probe of the open circuit breaker start now."""
        self._breaker.hasten_probe(time.monotonic())

    def retire(self) -> None:
        """Stop updating the gauges. They belong to the destination's next throttle, if there is one."""
        if self._breaker.is_open:
            self._log_closed(self._breaker)
        self._metrics.breaker_open.set(0)
        self._metrics.paused.set(0)
        self._retired = True

    @property
    def breaker_open(self) -> bool:
        """Whether the circuit breaker is open, so that only probes start."""
        return self._breaker.is_open

    @property
    def is_healthy(self) -> bool:
        """Whether `is_failing` and `suspects_poison` are both certainly false. This check is cheap."""
        return self._breaker.healthy

    @property
    def is_failing(self) -> bool:
        """Whether an event failed for the first time since the last success."""
        return self._breaker.failures > 0

    @property
    def suspects_poison(self) -> bool:
        """Whether recent failures may come from single events."""
        return self._breaker.suspects_poison(time.monotonic())

    @property
    def failures(self) -> int:
        """How many events failed for the first time since the last success."""
        return self._breaker.failures

    @property
    def open_since(self) -> float | None:
        """When the breaker opened (Unix time); None while it is closed."""
        return self._unix(self._breaker.opened_at) if self.breaker_open else None

    @property
    def next_probe(self) -> float | None:
        """When the next probe starts, or now while one is in progress; None while the breaker is closed."""
        return self._unix(max(self._breaker.probe_at, time.monotonic())) if self.breaker_open else None

    def starts_at(self, due: float) -> float | None:
        """Return when a delivery that is due at `due` can start, if nothing changes; None while paused."""
        if self._paused:
            return None
        probe = self.next_probe
        return due if probe is None else max(due, probe)

    def delay(self) -> float:
        """Return the seconds until an attempt may start; infinite if that depends on another event."""
        if self._paused:
            return math.inf
        now = time.monotonic()
        delay = self._breaker.delay(now)
        return delay if self._rate_limit is None else max(delay, self._rate_limit.delay(now) - _SOON)

    def admit(self) -> bool:
        """Return whether an attempt may start now. While `breaker_open`, that attempt is the probe."""
        return not self._paused and self._breaker.admit(time.monotonic())

    async def wait_for_rate(self) -> None:
        """Wait until the rate limit allows a start."""
        if self._rate_limit is not None:
            while (delay := self._rate_limit.delay(time.monotonic())) > 0:  # noqa: ASYNC110 - time is the event
                await asyncio.sleep(delay)

    def count_started(self, events: int) -> None:
        """Count events that start now against the rate limit."""
        if self._rate_limit is not None:
            self._rate_limit.take(time.monotonic(), events)

    def observe(self, outcome: Outcome, *, probe: bool, event: str) -> bool:
        """Learn the outcome of a POST. Returns whether the breaker's state may have changed.

        `event` identifies what was sent. For a batch, it is the id of the first event.
        """
        breaker, was_open = self._breaker, self._breaker.is_open
        final = outcome.reason != "ok" and retry_rule(self._retry_on, outcome.http_status) == "final"
        # A status that is final by `retry_on` concerns the event: the destination is up.
        reason: OutcomeReason = "rejected" if final else outcome.reason
        breaker.observe(reason, time.monotonic(), probe=probe, event=event)
        if self._retired or not (was_open or breaker.is_open):
            return False
        self._metrics.breaker_open.set(breaker.is_open)
        if was_open and not breaker.is_open:
            self._log_closed(breaker)
        elif not was_open:
            self._log_opened(reason)
        return True

    def _log_opened(self, reason: OutcomeReason) -> None:
        probe = self._unix(self._breaker.probe_at)
        get_logger().warning(
            "breaker.opened",
            destination=self._name,
            reason=reason,
            failures=self._breaker.failures,
            next_probe=rfc3339(probe),
        )

    def _log_closed(self, breaker: Breaker) -> None:
        lasted = round(time.monotonic() - breaker.opened_at, 3)
        get_logger().info("breaker.closed", destination=self._name, open_for=lasted)

    def _unix(self, monotonic: float) -> float:
        return self._clock() + monotonic - time.monotonic()


#: Seconds' worth of the rate that may start at once after a pause. It makes up for a late timer.
_BURST = 0.1


class RateLimit:
    """A token bucket: spreads starts evenly, with a burst of a tenth of a second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate * _BURST)
        self._tokens = self._size
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until a token is available; zero if there is one."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def take(self, now: float, tokens: int = 1) -> None:
        """Take tokens, even more than there are. Events that start together are waited for afterwards."""
        self._fill(now)
        self._tokens -= tokens

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
            self._at = now
