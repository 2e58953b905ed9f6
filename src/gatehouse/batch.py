"""Group work that a store does at the price of one: what waits while a write is under way is the next write.

There is no delay to gather a batch: an idle store gets a batch of one, a busy one gets full batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects items and hands them to `write` in batches, one batch at a time, in the order submitted.

    `write` returns one result per item, in order. When it raises, each item of that batch gets the exception.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, limit: int) -> None:
        self._write = write
        self._limit = limit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many items wait for the next batch."""
        return len(self._waiting)

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item. A future that is done (cancelled) when its turn comes is not written."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._run())
        return future

    async def drain(self) -> None:
        """Wait until everything that was submitted has been written or refused."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _run(self) -> None:
        try:
            while batch := self._next_batch():
                await self._write_batch(batch)
        finally:
            self._writer = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._limit:
            entry = self._waiting.popleft()
            if not entry[1].done():
                batch.append(entry)
        return batch

    async def _write_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for an item gets the error, whatever it is
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
