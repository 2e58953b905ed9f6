"""Watches the store's disk once a second: its free space, and whether the store's files are still there.

Below the watermark of free space new requests get 503, so that stored events can still be delivered. A disk
that is completely full stops deliveries too, because their results need space.
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

#: Seconds between two checks. At 100 MB/s the disk fills by less than half of the default watermark in that
#: time.
CHECK_EVERY: Final = 1.0


def free_bytes(directory: Path) -> int:
    """Return the bytes that this process can still write to a directory. Raises `OSError`."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class DiskWatch:
    """Watches the free space of the store's disk, and the store's files."""

    def __init__(
        self,
        directory: Path,
        min_free: int,
        metrics: Metrics,
        *,
        every: float = CHECK_EVERY,
        free: Callable[[Path], int] = free_bytes,
        check_store: Callable[[], None] | None = None,
        ping_store: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_store` raises `StoreError` if the files are lost, and `ping_store` makes the store react."""
        self._directory = directory
        self._min_free = min_free
        self._metrics = metrics
        self._every = every
        self._free = free
        self._check_store_files = check_store
        self._ping_store = ping_store
        self._is_lost = False
        self._watching: asyncio.Task[None] | None = None
        #: Whether there is less free space than the watermark.
        self.is_low = False

    def use(self, min_free: int) -> None:
        """Set the watermark from the next check on. With 0 there is none."""
        self._min_free = min_free

    async def start(self) -> None:
        """Check now, and from then on once a second."""
        await self.check_space()
        self._watching = asyncio.create_task(self._run(), name="disk watch")

    async def stop(self) -> None:
        """Stop checking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.check_space()
            await self.check_store()

    async def check_store(self) -> None:
        """Log when the store's files are lost, and when they are back."""
        if self._check_store_files is None or self._ping_store is None:
            return
        try:
            await asyncio.to_thread(self._check_store_files)
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

    async def check_space(self) -> None:
        """Ask the file system for the free space. On an error nothing changes: the store will report it."""
        try:
            # In a thread, because the call hangs if the disk hangs.
            free = await asyncio.to_thread(self._free, self._directory)
        except OSError:
            return
        self._metrics.store_free_bytes.set(free)
        was_low, self.is_low = self.is_low, free < self._min_free
        if self.is_low and not was_low:
            get_logger().error("store.disk_low", free_bytes=free, min_free=self._min_free)
        elif was_low and not self.is_low:
            get_logger().info("store.disk_enough", free_bytes=free, min_free=self._min_free)
