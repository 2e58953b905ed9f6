"""Keeps track of paused destinations across all processes that share the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from gatehouse.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.store.base import Store


class Pauses:
    """Stores pauses, and follows those that other processes start or end."""

    def __init__(self, store: Store, on_change: Callable[[str], None]) -> None:
        self._store = store
        #: Called with the name of a destination that another process paused or resumed.
        self._on_change = on_change
        self._names: frozenset[str] = frozenset()
        #: Counts own changes at their start and end. A read in between may be out of date.
        self._own_changes = 0
        self._read_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    async def start(self) -> None:
        """Read the current pauses and follow changes from now on."""
        self._names = await self._store.paused()
        if self._store.shared:
            self._task = asyncio.create_task(self._follow(), name="pauses")

    def stop(self) -> None:
        """Stop following changes."""
        if self._task is not None:
            self._task.cancel()

    def read_soon(self) -> None:
        """Read soon, because another process reported a change."""
        self._read_now.set()

    async def change(self, name: str, *, paused: bool) -> None:
        """Store that a destination is paused, or no longer paused. Raises `StoreUnavailableError`."""
        self._own_changes += 1
        try:
            await self._store.pause(name, paused=paused)
        finally:
            self._own_changes += 1
        self._names = self._names | {name} if paused else self._names - {name}

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._store.poll_every):
                    await self._read_now.wait()
            self._read_now.clear()
            # A failed read is repeated later.
            with suppress(StoreError):
                await self._read()

    async def _read(self) -> None:
        own = self._own_changes
        names = await self._store.paused()
        if own != self._own_changes:
            self._read_now.set()
            return
        differing, self._names = names ^ self._names, names
        for name in differing:
            self._on_change(name)
