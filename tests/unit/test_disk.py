"""The free-disk watermark: what it sees, what it says, and what it does not fall over."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse.store.disk import DiskWatch, free_bytes
from gatehouse.telemetry import log
from gatehouse.telemetry.metrics import Metrics


@pytest.fixture(autouse=True)
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    yield stream
    log.reset()


class Disk:
    """A disk with as much room as the test says."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.error: OSError | None = None

    def __call__(self, _: Path) -> int:
        if self.error is not None:
            raise self.error
        return self.free


def watch(disk: Disk, metrics: Metrics, *, min_free: int = 100) -> DiskWatch:
    return DiskWatch(Path(), min_free, metrics, every=0.001, free=disk)


def gauge(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("gatehouse_store_free_bytes")


async def test_it_is_low_below_the_watermark_and_said_once_each_way(logged: io.StringIO) -> None:
    disk, metrics = Disk(100), Metrics()
    looking = watch(disk, metrics)
    states = []
    for free in (100, 99, 50, 100, 101):
        disk.free = free
        await looking.check_space()
        states.append(looking.is_low)
        assert gauge(metrics) == free
    await asyncio.sleep(0)

    assert states == [False, True, True, False, False]
    said = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["event"] for line in said] == ["store.disk_low", "store.disk_enough"]


async def test_zero_is_never_low() -> None:
    looking = watch(Disk(0), Metrics(), min_free=0)
    await looking.check_space()

    assert not looking.is_low


async def test_another_watermark_counts_from_the_next_look_on() -> None:
    looking = watch(Disk(100), Metrics())
    looking.use(101)
    await looking.check_space()

    assert looking.is_low


async def test_a_file_system_that_does_not_answer_changes_nothing() -> None:
    disk = Disk(0)
    looking = watch(disk, Metrics())
    await looking.check_space()
    disk.error = OSError(5, "Input/output error")
    await looking.check_space()

    assert looking.is_low


async def test_it_goes_on_looking_until_it_is_stopped() -> None:
    disk = Disk(100)
    looking = watch(disk, Metrics())
    await looking.start()
    disk.free = 0
    async with asyncio.timeout(5):
        while not looking.is_low:  # noqa: ASYNC110 - it says so nowhere else
            await asyncio.sleep(0.001)
    await looking.stop()


def test_the_room_on_this_disk_is_known(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
