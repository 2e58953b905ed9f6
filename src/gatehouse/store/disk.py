"""The disk under the store, looked at each second: how much room it has, and whether the store is there.

Below the free-disk watermark new requests get 503, so that what is stored can still be delivered. A disk that
is full to the last byte stops deliveries too: their results need room to be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

from gatehouse.errors import StoreError
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gatehouse.telemetry.metrics import Metrics

#: Seconds between two looks. At 100 MB/s the disk fills by less than half of the default watermark meanwhile.
LOOK_EVERY: Final = 1.0


def free_bytes(directory: Path) -> int:
    """Return the bytes that this process may still write there. Raises `OSError`."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class DiskWatch:
    """Looks how much room the store's disk has left."""

    def __init__(
        self,
        directory: Path,
        min_free: int,
        metrics: Metrics,
        *,
        every: float = LOOK_EVERY,
        free: Callable[[Path], int] = free_bytes,
        look_at_store: Callable[[], None] | None = None,
        ping_store: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`look_at_store` raises `StoreError` when the file is gone; then `ping_store` lets the store act."""
        self._directory = directory
        self._min_free = min_free
        self._metrics = metrics
        self._every = every
        self._free = free
        self._look_at_store = look_at_store
        self._ping_store = ping_store
        self._is_lost = False
        self._looking: asyncio.Task[None] | None = None
        #: Whether less is left than there should be.
        self.is_low = False

    def use(self, min_free: int) -> None:
        """Want this many bytes free from the next look on; 0: as many as there are."""
        self._min_free = min_free

    async def start(self) -> None:
        """Look now, and from then on every second."""
        await self.look()
        self._looking = asyncio.create_task(self._run(), name="disk watch")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.look()
            await self.look_at_store()

    async def look_at_store(self) -> None:
        """Say when the store's file is lost, and when it is back."""
        if self._look_at_store is None or self._ping_store is None:
            return
        try:
            await asyncio.to_thread(self._look_at_store)
        except StoreError as error:
            if not self._is_lost:
                get_logger().error("store.file_lost", error=str(error), hint=error.hint)
            self._is_lost = True
            with contextlib.suppress(StoreError):
                await self._ping_store()
        else:
            if self._is_lost:
                get_logger().info("store.file_back")
            self._is_lost = False

    async def look(self) -> None:
        """Ask the file system. One that does not answer leaves things as they were; the store will tell."""
        try:
            # In a thread: on a disk that hangs this hangs too.
            free = await asyncio.to_thread(self._free, self._directory)
        except OSError:
            return
        self._metrics.store_free_bytes.set(free)
        was_low, self.is_low = self.is_low, free < self._min_free
        if self.is_low and not was_low:
            get_logger().error("store.disk_low", free_bytes=free, min_free=self._min_free)
        elif was_low and not self.is_low:
            get_logger().info("store.disk_enough", free_bytes=free, min_free=self._min_free)
