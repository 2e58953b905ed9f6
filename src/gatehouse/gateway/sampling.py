"""Samples the counters of sources and destinations once a minute, for their history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gatehouse.errors import OUTCOME_REASONS
from gatehouse.telemetry.history import History, Key, Sampled
from gatehouse.telemetry.metrics import FAULT_OUTCOMES, REFUSED_OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.gateway.compiled import CompiledConfig
    from gatehouse.telemetry.metrics import Metrics

#: Seconds between samples, which are taken at multiples of it.
EVERY: Final = 60.0
_FAILURES = [reason for reason in OUTCOME_REASONS if reason != "ok"]


class Sampler:
    """Fills a history. Samples are also taken when somebody reads it, and when a reload changes the names."""

    def __init__(
        self,
        metrics: Metrics,
        config: Callable[[], CompiledConfig],
        *,
        wall: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        """`config` returns the config in use."""
        self._metrics = metrics
        self._config = config
        self._wall = wall
        self._steady = steady
        self._history = History(wall(), steady())
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sample now, and from then on at each full minute of the machine's clock."""
        self._schedule()
        self.sample()

    def stop(self) -> None:
        """Take no more samples."""
        if self._next is not None:
            self._next.cancel()

    def sample(self) -> History:
        """Take a sample, and return the history with it. Takes about 5 µs per name."""
        config = self._config()
        samples: dict[Key, Sampled] = {("source", name): self._source(name) for name in config.sources}
        samples |= {("destination", name): self._destination(name) for name in config.destinations}
        self._history.sample(samples, self._wall(), self._steady())
        return self._history

    def _schedule(self) -> None:
        seconds = EVERY - self._wall() % EVERY
        self._next = asyncio.get_running_loop().call_later(seconds, self._sample_again)

    def _sample_again(self) -> None:
        # First, so that samples go on whatever happens to this one.
        self._schedule()
        self.sample()

    def _source(self, name: str) -> Sampled:
        requests = self._metrics.requests.labels
        return Sampled(
            {
                "accepted": int(self._metrics.events.labels(name).value),
                "refused": int(sum(requests(name, outcome).value for outcome in REFUSED_OUTCOMES)),
                "unavailable": int(sum(requests(name, outcome).value for outcome in FAULT_OUTCOMES)),
            }
        )

    def _destination(self, name: str) -> Sampled:
        attempts = self._metrics.attempts.labels
        failed: dict[str, int] = {}
        for reason in _FAILURES:
            if number := int(attempts(name, reason).value):
                failed[reason] = number
        return Sampled(
            {
                "delivered": int(self._metrics.deliveries.labels(name, "delivered").value),
                "failed": sum(failed.values()),
                **failed,
            },
            self._metrics.oldest_pending_age.labels(name).compute(),
        )
