"""Removes expired data in small steps, so that no request waits long for a step."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gatehouse.errors import StoreError
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.config.model import StoreConfig
    from gatehouse.store.base import Purged, Store
    from gatehouse.telemetry.metrics import Metrics

#: Seconds between sweeps.
SWEEP_EVERY: Final = 60.0
#: Rows per step, at the start and at most. A step is one transaction, and new requests wait for it. Each
#: dedupe key is in a different page of the file, which has to be written: 500 keys took 27 ms, and 100 keys
#: take 2 ms.
ROWS_PER_STEP: Final = 100
_MAX_ROWS_PER_STEP: Final = 1000
#: Seconds after which a sweep makes larger steps, so that it keeps up with the data that expires.
_LARGER_STEPS_AFTER: Final = 900.0
#: The minimum and the maximum of seconds between steps.
_PAUSES: Final = (0.05, 1.0)


class Retention:
    """Sweeps the store once a minute, and updates the gauge of its size."""

    def __init__(
        self, store: Store, config: StoreConfig, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._sweeping: asyncio.Task[None] | None = None

    def use(self, config: StoreConfig) -> None:
        """Apply a new config from the next step on."""
        self._config = config

    def start(self) -> None:
        """Sweep now, and from then on once a minute."""
        self._sweeping = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop between two steps."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                get_logger().warning("store.unavailable", error=str(error), during="retention")
            self._metrics.store_bytes.set(self._store.size())
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Remove everything that has expired by now."""
        events = keys = audit = 0
        done = False
        began = time.monotonic()
        while not done:
            started = time.monotonic()
            purged = await self._step(rows_per_step(started - began))
            events += purged.events
            keys += purged.keys
            audit += purged.audit
            done = purged.done
            if not done:
                await asyncio.sleep(pause_after(time.monotonic() - started))
        if events or keys or audit:
            get_logger().info("store.purged", events=events, keys=keys, audit=audit)

    async def _step(self, limit: int) -> Purged:
        now = self._clock()
        return await self._store.purge(
            now=now,
            events_before=now - self._config.keep_events,
            dead_before=now - self._config.keep_dead,
            audit_before=now - self._config.keep_audit,
            limit=limit,
        )


def rows_per_step(lasted: float) -> int:
    """Return how many rows to remove in a step of a sweep that has lasted this long (seconds)."""
    return min(ROWS_PER_STEP * (1 + int(lasted / _LARGER_STEPS_AFTER)), _MAX_ROWS_PER_STEP)


def pause_after(took: float) -> float:
    """Return how long to pause after a step: as long as it took, so a sweep uses at most half of the time."""
    minimum, maximum = _PAUSES
    return min(max(took, minimum), maximum)
