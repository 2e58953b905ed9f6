"""Retention: what has expired is removed in small steps, so that ingest never waits long behind one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatehouse.errors import StoreError
from gatehouse.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.config.model import StoreConfig
    from gatehouse.metrics import Metrics
    from gatehouse.store.base import Purged, Store

#: Seconds between sweeps.
SWEEP_EVERY = 60.0
#: Rows per step. A step is one transaction, which requests that arrive meanwhile wait for.
ROWS_PER_STEP = 500
#: Seconds between steps, so that a sweep takes a small share of the store's time.
_PAUSE = 0.05


class Retention:
    """Sweeps the store and keeps the gauges that follow from it."""

    def __init__(
        self, store: Store, config: StoreConfig, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._sweeping: asyncio.Task[None] | None = None

    def use(self, config: StoreConfig) -> None:
        """Keep events and dead letters as long as this says, from the next step on."""
        self._config = config

    def start(self) -> None:
        """Sweep now, and from then on every minute."""
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
        """Remove all that has expired by now."""
        events = keys = 0
        done = False
        while not done:
            purged = await self._step()
            events += purged.events
            keys += purged.keys
            done = purged.done
            if not done:
                await asyncio.sleep(_PAUSE)
        if events or keys:
            get_logger().info("store.purged", events=events, keys=keys)

    async def _step(self) -> Purged:
        now = self._clock()
        return await self._store.purge(
            now=now,
            events_before=now - self._config.keep_events,
            dead_before=now - self._config.keep_dead,
            limit=ROWS_PER_STEP,
        )
