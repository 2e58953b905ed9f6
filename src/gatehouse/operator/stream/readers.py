"""Writes what the hub publishes to all readers, without ever waiting for one of them.

The readers must not slow down the gateway, so they share a small part of its time: when there is more to
write than fits into it, they get it later, and the slowest of them lose entries.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gatehouse.operator.stream.budget import Budget
from gatehouse.operator.stream.entries import GOODBYE
from gatehouse.operator.stream.view import View

if TYPE_CHECKING:
    from gatehouse.operator.stream.connection import Reader
    from gatehouse.operator.stream.wanted import Wanted
    from gatehouse.telemetry.live import Hub
    from gatehouse.telemetry.metrics import ProcessMetrics

#: Seconds between two writes to a reader, and when it has yet to get more.
_INTERVAL, _INTERVAL_BEHIND = 0.1, 0.01
#: Seconds after which a reader that has left is noticed, if nothing is published.
_LOOK_EVERY: Final = 1.0
#: Seconds of work after which the gateway does something else.
_SLICE: Final = 0.001
#: The estimated cost of a write that is not measured, because the kernel does it later: seconds for each
#: write, and for each byte.
_PER_WRITE, _PER_BYTE = 15e-6, 1e-9


class Readers:
    """All readers that have caught up."""

    def __init__(self, hub: Hub, metrics: ProcessMetrics) -> None:
        self._hub = hub
        self._metrics = metrics
        self._budget = Budget()
        self._readers: dict[Reader, None] = {}
        self._views: dict[Wanted, tuple[View, int]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._published = asyncio.Event()
        self._look_every = _LOOK_EVERY
        #: Seconds of processor time since the last pause.
        self._worked = 0.0

    def view(self, wanted: Wanted) -> View:
        """Return the view of those who want the same. Give it back with `release`."""
        view, users = self._views.get(wanted) or (View(self._hub, wanted), 0)
        self._views[wanted] = view, users + 1
        return view

    def release(self, view: View) -> None:
        """Forget a view that nobody uses any more."""
        _, users = self._views.pop(view.wanted)
        if users > 1:
            self._views[view.wanted] = view, users - 1

    def add(self, reader: Reader, heartbeat: float) -> None:
        """Write to a reader until it leaves. Then `reader.ended` is set."""
        self._readers[reader] = None
        self._look_every = min(_LOOK_EVERY, heartbeat)
        self._published.set()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="stream")

    def remove(self, reader: Reader) -> None:
        """Write nothing more to a reader."""
        self._readers.pop(reader, None)
        if not reader.ended.done():
            reader.ended.set_result(None)

    async def stop(self) -> None:
        """End all readers at once."""
        for reader in list(self._readers):
            reader.connection.end(GOODBYE)
            self.remove(reader)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._readers:
                is_behind, is_blocked = await self._round()
                await asyncio.sleep(_INTERVAL_BEHIND if is_behind else _INTERVAL)
                if not is_behind:
                    await self._wait(_INTERVAL if is_blocked else self._look_every)
        finally:
            self._writing = None

    async def _wait(self, at_most: float) -> None:
        """Wait until something is published, or for the readers that leave or have to catch up."""
        if any(reader.is_behind and not reader.connection.is_blocked for reader in self._readers):
            return
        self._published.clear()
        self._hub.call_at_next(self._published.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._published.wait()

    async def _round(self) -> tuple[bool, bool]:
        """Write to each reader once. Returns whether one has yet to get more, and whether one is blocked."""
        is_behind = is_blocked = False
        clock = asyncio.get_running_loop().time
        for reader in list(self._readers):
            if reader.ended.done():
                continue
            if reader.connection.is_gone:
                self.remove(reader)
            elif reader.connection.is_blocked:
                is_blocked = True
            elif reader.is_due(clock()):
                self._step(reader)
                is_behind |= reader.is_behind and reader.is_due(clock())
            if self._worked >= _SLICE:
                worked, self._worked = self._worked, 0.0
                await asyncio.sleep(self._budget.pause(worked, clock(), time.process_time()))
        return is_behind, is_blocked

    def _step(self, reader: Reader) -> None:
        started = time.thread_time()
        written, left_out = reader.step(asyncio.get_running_loop().time())
        if left_out:
            self._metrics.stream_left_out.inc(left_out)
        estimated = _PER_WRITE + written * _PER_BYTE if written else 0.0
        self._worked += time.thread_time() - started + estimated
