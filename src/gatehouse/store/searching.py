"""Fills a page of a list in steps, so that no search holds up the gateway. Pure: the clock is passed in.

A step scans a bounded number of rows in a transaction of its own. Steps follow one another until the page is
full, the list ends, or the page has taken long enough: then the page is short, or empty, and has a cursor.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.listing import SCAN_ROWS
from gatehouse.store.records import Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gatehouse.store.records import DeliveryQuery, EventQuery

    Step = Callable[[int, str | None, int], Awaitable["Page[T]"]]

T = TypeVar("T")

#: After this time a page ends, full or not (seconds).
PAGE_TIME: Final = 0.15
#: How long a step should take (seconds).
STEP_TIME: Final = 0.02
#: A step grows and shrinks by at most this factor, because one measurement says little about the next rows.
_GROWTH: Final = 4.0
#: How many searches of bodies may wait for their turn.
MOST_WAITING: Final = 8


class StepRows(NamedTuple):
    """How many rows a step may scan."""

    first: int
    least: int
    most: int


#: For a scan of an index.
INDEX_ROWS: Final = StepRows(SCAN_ROWS, 500, 20_000)
#: For a scan that reads each body: 64 MiB in the first step, if all bodies have the largest usual size.
BODY_ROWS: Final = StepRows(64, 4, 2000)


def rows_for(query: EventQuery | DeliveryQuery) -> StepRows:
    """Return how many rows a step of this query may scan."""
    return INDEX_ROWS if getattr(query, "contains", None) is None else BODY_ROWS


def next_rows(rows: int, took: float, bounds: StepRows) -> int:
    """Return how many rows the next step scans, after a step of `rows` rows that took this long (seconds)."""
    factor = min(_GROWTH, max(1 / _GROWTH, STEP_TIME / max(took, 1e-6)))
    return max(bounds.least, min(bounds.most, int(rows * factor)))


async def fill_page(
    step: Step[T],
    *,
    limit: int,
    cursor: str | None,
    bounds: StepRows,
    clock: Callable[[], float] = time.monotonic,
) -> Page[T]:
    """Return a page of at most `limit` items.

    `step` is called with the number of items that are still missing, the cursor, and how many rows to scan.
    """
    items: list[T] = []
    rows = bounds.first
    started = now = clock()
    while True:
        page = await step(limit - len(items), cursor, rows)
        items += page.items
        cursor = page.cursor
        before, now = now, clock()
        if cursor is None or len(items) >= limit or now - started >= PAGE_TIME:
            return Page(tuple(items), cursor, page.searched_to)
        rows = next_rows(rows, now - before, bounds)


class BodySearches:
    """Lets one search of bodies run at a time: each keeps a core busy. A few wait, and others are refused."""

    def __init__(self) -> None:
        self._running = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, query: EventQuery) -> AsyncIterator[None]:
        """Wait for the turn of a query, if it searches bodies. Raises `StoreUnavailableError`."""
        if query.contains is None:
            yield
            return
        if self._waiting >= MOST_WAITING:
            raise StoreUnavailableError("too many searches of bodies run at the same time")
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._running.release()
