"""Groups items into batches: those that wait while a write runs are the next write (group commit).

An idle store gets a batch of one item at once, and a busy store gets full batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: From this batch size on a pause pays off (see `Batcher`).
_SEVERAL: Final = 4
#: This fraction of the limit is company enough for items that are not urgent.
_ENOUGH: Final = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects items, and passes them to `write` in batches, in the order they were submitted.

    `write` returns one result per item, in order. If it raises, each item of that batch gets the exception. A
    full batch need not wait for the one before it: up to `at_once` batches are written at the same time.
    Under overload a turn of the event loop takes long, and a store with one batch per turn would mostly be
    idle.

    After a batch of several items, the next one waits until as many have come again, for at most `pause`
    seconds. Otherwise the callers would form two groups that take turns. Half as many writes, each twice as
    large, make an event a tenth cheaper, and more where a sync takes long.

    Items that are not urgent wait longer for company: until `spacing` seconds after the last batch began,
    until an eighth of the `limit` waits, or until an urgent item comes.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int,
        at_once: int = 1,
        pause: float = 0.0,
        spacing: float = 0.0,
    ) -> None:
        self._write = write
        self._limit = limit
        self._at_once = at_once
        self._pause = pause
        self._spacing = spacing
        #: When the last batch began (seconds of the event loop's clock), if batches are spaced.
        self._last_began = 0.0
        self._has_urgent = False
        self._is_spacing = False
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writing: set[asyncio.Task[int]] = set()
        self._is_due = False
        #: During a pause: the number of waiting items that ends it early.
        self._expected = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, item: Item, *, urgent: bool = True) -> asyncio.Future[Result]:
        """Queue an item. If its future is canceled before the item is written, the item is dropped.

        `urgent` matters only if batches are spaced.
        """
        if self._loop is None:
            # Only once, because it is a system call, and there are thousands of items per second.
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((item, future))
        if self._spacing:
            # Each event comes here, so this is written out.
            if urgent:
                self._has_urgent = True
                if self._is_spacing:
                    self._end_pause()
            elif not (self._has_urgent or self._writing or self._expected or self._is_due):
                self._space()
        if not self._is_due and self._may_start():
            # In the next turn of the event loop, so that other items of this turn join the batch.
            self._is_due = True
            self._loop.call_soon(self._start)
        return future

    async def drain(self) -> None:
        """Wait until all submitted items have been written or refused."""
        while self._waiting or self._writing:
            self._start()
            if self._writing:
                await asyncio.wait(self._writing)

    def _may_start(self) -> bool:
        if self._writing:
            return len(self._waiting) >= self._limit and len(self._writing) < self._at_once
        return len(self._waiting) >= self._expected

    def _space(self) -> None:
        """Let the items that wait now wait for more, unless the last batch began long ago."""
        assert self._loop is not None  # noqa: S101 - set with the first item
        wait = self._last_began + self._spacing - self._loop.time()
        if wait > 0:
            self._begin_pause(self._limit // _ENOUGH, wait)
            self._is_spacing = True

    def _start(self) -> None:
        self._is_due = False
        self._end_pause()
        while self._waiting and self._may_start():
            if batch := self._next_batch():
                if self._spacing:
                    self._last_began, self._has_urgent = asyncio.get_running_loop().time(), False
                task = asyncio.create_task(self._write_batch(batch))
                self._writing.add(task)
                task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[int]) -> None:
        self._writing.discard(task)
        several = not task.cancelled() and task.result() >= _SEVERAL
        if self._waiting and not self._writing:
            if self._spacing and not self._has_urgent:
                self._space()
            elif self._pause and several:
                self._begin_pause(len(self._waiting) + task.result(), self._pause)
        if self._may_start():
            self._start()

    def _begin_pause(self, expected: int, seconds: float) -> None:
        self._end_pause()
        self._expected = min(self._limit, expected)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _end_pause(self) -> None:
        self._expected, self._is_spacing = 0, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._limit:
            entry = self._waiting.popleft()
            if not entry[1].done():
                batch.append(entry)
        return batch

    async def _write_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> int:
        """Write a batch, and give each item its result. Returns the number of items."""
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - the callers get the error, whatever it is
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
        return len(batch)
