"""The deliveries that wait in memory, and how long a batch waits for more."""

from __future__ import annotations

import asyncio
import time

import pytest

from doubles.delivery import make_destination, make_event
from gatehouse.delivery.backlog import MAX_BYTES, MAX_CAPACITY, MIN_CAPACITY, Backlog
from gatehouse.store.base import Delivery

LONG = 5.0


def make_delivery(size: int = 10) -> Delivery:
    return Delivery(make_event(b"x" * size), "billing", 0, time.time() + 30)


def backlog_with(count: int, **fields: object) -> Backlog:
    backlog = Backlog(make_destination("http://127.0.0.1/", **fields))
    for _ in range(count):
        backlog.put(make_delivery())
    return backlog


async def time_waited(backlog: Backlog, count: int = 100, size: int = 10**6, linger: float = LONG) -> float:
    started = time.monotonic()
    await backlog.wait_for_batch(count, size, linger)
    return time.monotonic() - started


async def test_first_in_first_out() -> None:
    backlog = backlog_with(0)
    deliveries = [make_delivery() for _ in range(3)]
    for delivery in deliveries:
        backlog.put(delivery)
    assert backlog.peek() is deliveries[0]
    assert [backlog.take() for _ in range(3)] == deliveries
    assert not backlog


def test_room_is_bounded_by_number_bytes_and_rate() -> None:
    assert backlog_with(10).room == MIN_CAPACITY - 10
    assert backlog_with(10, rate=2.0).room == 10
    backlog = backlog_with(0)
    backlog.put(make_delivery(MAX_BYTES))
    assert backlog.room == 0
    backlog.take()
    assert backlog.room == MIN_CAPACITY


class Clock:
    """Replaces `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def pass_with(self, backlog: Backlog, taken: int) -> None:
        """Let a second pass in which this many deliveries came and were taken, then add another one."""
        for _ in range(taken):
            backlog.put(make_delivery())
            backlog.take()
        self.now += 1
        backlog.put(make_delivery())


@pytest.mark.parametrize(
    ("taken", "capacity"), [(0, MIN_CAPACITY), (100, MIN_CAPACITY), (600, 3000), (3000, MAX_CAPACITY)]
)
def test_the_capacity_is_the_number_delivered_within_seconds(
    monkeypatch: pytest.MonkeyPatch, taken: int, capacity: int
) -> None:
    clock, backlog = Clock(monkeypatch), backlog_with(0)

    clock.pass_with(backlog, taken)

    assert backlog.room == capacity - 1


def test_a_slower_destination_gets_a_smaller_capacity_and_keeps_its_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, backlog = Clock(monkeypatch), backlog_with(0)
    clock.pass_with(backlog, 1000)
    while backlog.room:
        backlog.put(make_delivery())
    assert len(backlog) == 5000

    clock.pass_with(backlog, 0)

    assert backlog.room == 0
    assert len(backlog) == 5001


def test_with_a_rate_the_capacity_is_the_number_that_can_start_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, backlog = Clock(monkeypatch), backlog_with(0, rate=2.0)

    clock.pass_with(backlog, 1000)

    assert backlog.room == 19


async def test_a_single_delivery_does_not_wait_for_others() -> None:
    assert await time_waited(backlog_with(1), linger=0.5) < 0.4


async def test_a_full_batch_does_not_wait() -> None:
    assert await time_waited(backlog_with(100)) < LONG / 2
    assert await time_waited(backlog_with(10), size=100) < LONG / 2


async def test_while_deliveries_arrive_a_batch_waits_until_it_is_full() -> None:
    backlog = backlog_with(2)
    lingering = asyncio.create_task(time_waited(backlog, count=5))
    for _ in range(3):
        await asyncio.sleep(0)
        assert not lingering.done()
        backlog.put(make_delivery())
    assert await lingering < LONG / 2
    assert len(backlog) == 5


async def test_a_batch_waits_at_most_the_linger_time() -> None:
    took = await time_waited(backlog_with(2), linger=0.05)
    assert 0.04 <= took < LONG / 2


async def test_a_worker_waits_until_a_delivery_is_put() -> None:
    backlog = backlog_with(1)
    await backlog.wait_startable()
    backlog.take()
    coming = asyncio.create_task(backlog.wait_startable())
    await asyncio.sleep(0)
    assert not coming.done()
    backlog.put(make_delivery())
    await coming


async def test_each_delivery_wakes_a_worker_that_is_still_there() -> None:
    backlog = backlog_with(0)
    workers = [asyncio.create_task(backlog.wait_for_next()) for _ in range(4)]
    await asyncio.sleep(0)
    workers[0].cancel()
    await asyncio.sleep(0)
    for _ in range(2):
        backlog.put(make_delivery())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [worker.done() for worker in workers] == [True, True, True, False]
    workers[3].cancel()
    await asyncio.gather(*workers, return_exceptions=True)
