"""Fills a page of a list in steps, so that no search holds up the gateway. Pure: the clock is passed in.

A step scans a bounded number of rows in a transaction of its own. Steps follow one another until the page is
full, the list ends, or the page has taken long enough: then the page is short, or empty, and has a cursor.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.listing import SCAN_ROWS, SCATTERED_ROWS, driver_of, reads_events
from gatehouse.store.records import DeadGroup, Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from gatehouse.store.records import DeliveryQuery, EventQuery

    Step = Callable[[int, str | None, int], Awaitable["Page[T]"]]

T = TypeVar("T")

#: After this time a page ends, full or not (seconds).
PAGE_TIME: Final = 0.15
#: The same for a page of groups: with its last step, it takes about 100 ms.
GROUPS_TIME: Final = 0.08
#: A step grows and shrinks by at most this factor, because one measurement says little about the next rows.
_GROWTH: Final = 4.0
#: How many searches of bodies may wait for their turn.
MOST_WAITING: Final = 8


class Steps(NamedTuple):
    """How many rows a step may scan, and how long it should take."""

    first: int
    least: int
    most: int
    #: How long a step should take (seconds).
    seconds: float = 0.02
    #: How long to rest before the next step: a multiple of the time of the last one.
    rest: float = 0.0


#: For a scan of an index. New rows are in memory, and older ones may be on the disk. So a fast step does not
#: mean that the next one will be fast, and the largest step is one that a disk reads in about 30 ms.
INDEX_STEPS: Final = Steps(SCAN_ROWS, 500, SCAN_ROWS)
#: For a scan that reads each body: 64 MiB in the first step, if all bodies have the largest usual size. It
#: takes much time of a processor, so it rests twice as long as it works.
BODY_STEPS: Final = Steps(64, 4, 1000, seconds=0.01, rest=2.0)
#: For a scan of rows that are far from one another in the file.
_SCATTERED_STEPS: Final = Steps(SCATTERED_ROWS // 2, SCATTERED_ROWS // 20, SCATTERED_ROWS)


def steps_for(query: EventQuery | DeliveryQuery) -> Steps:
    """Return how to scan for this query."""
    steps = INDEX_STEPS if getattr(query, "contains", None) is None else BODY_STEPS
    return steps if driver_of(query) in (None, "pending") else _scattered(steps)


def steps_for_groups(query: DeliveryQuery) -> Steps:
    """Return how to scan dead deliveries to count those that this query asks for."""
    # Their own rows are close enough. Those of their events and attempts are not.
    is_close = not reads_events(query) and query.reason is None and query.http_status is None
    return INDEX_STEPS if is_close else _scattered(INDEX_STEPS)


def _scattered(steps: Steps) -> Steps:
    first, least, most = map(min, steps[:3], _SCATTERED_STEPS[:3])
    return steps._replace(first=first, least=least, most=most)


def next_rows(rows: int, took: float, steps: Steps) -> int:
    """Return how many rows the next step scans, after a step of `rows` rows that took this long (seconds)."""
    factor = min(_GROWTH, max(1 / _GROWTH, steps.seconds / max(took, 1e-6)))
    return max(steps.least, min(steps.most, int(rows * factor)))


async def fill_page(
    step: Step[T],
    *,
    limit: int,
    cursor: str | None,
    steps: Steps,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    page_time: float | None = None,
) -> Page[T]:
    """Return a page of at most `limit` items.

    `step` is called with the number of items that are still missing, the cursor, and how many rows to scan.
    The page ends after `page_time` seconds (`PAGE_TIME` by default), full or not.
    """
    within = PAGE_TIME if page_time is None else page_time
    items: list[T] = []
    rows = steps.first
    started = clock()
    while True:
        before = clock()
        page = await step(limit - len(items), cursor, rows)
        items += page.items
        cursor = page.cursor
        now = clock()
        rest = steps.rest * (now - before)
        if cursor is None or len(items) >= limit or now + rest - started >= within:
            return Page(tuple(items), cursor, page.searched_to)
        left = started + within - now - rest
        rows = next_rows(rows, now - before, steps._replace(seconds=min(steps.seconds, left)))
        if rest:
            await sleep(rest)


async def fill_groups(
    step: Step[DeadGroup], *, cursor: str | None, steps: Steps, page_time: float
) -> Page[DeadGroup]:
    """Return the groups that the steps of one page counted, the largest first. Each step returns its own."""
    page = await fill_page(step, limit=sys.maxsize, cursor=cursor, steps=steps, page_time=page_time)
    return Page(merge_groups(page.items), page.cursor, page.searched_to)


def merge_groups(counted: Iterable[DeadGroup]) -> tuple[DeadGroup, ...]:
    """Add up the groups of several steps, and return the largest first."""
    merged: dict[tuple[str, str | None, int | None], DeadGroup] = {}
    for group in counted:
        key = group.destination, group.reason, group.http_status
        before = merged.get(key)
        merged[key] = group if before is None else _sum(before, group)
    return tuple(sorted(merged.values(), key=lambda group: (-group.count, group.destination)))


def _sum(one: DeadGroup, other: DeadGroup) -> DeadGroup:
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        oldest=min(one.oldest, other.oldest),
        newest=max(one.newest, other.newest),
    )


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
