"""The disk watch detects and logs low space, and survives errors."""

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
    """A disk whose free space the test sets."""

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


async def test_low_space_is_logged_once_below_the_watermark_and_once_above(logged: io.StringIO) -> None:
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


async def test_a_watermark_of_zero_is_never_reached() -> None:
    looking = watch(Disk(0), Metrics(), min_free=0)
    await looking.check_space()

    assert not looking.is_low


async def test_a_new_watermark_applies_from_the_next_check_on() -> None:
    looking = watch(Disk(100), Metrics())
    looking.use(101)
    await looking.check_space()

    assert looking.is_low


async def test_an_error_of_the_file_system_changes_nothing() -> None:
    disk = Disk(0)
    looking = watch(disk, Metrics())
    await looking.check_space()
    disk.error = OSError(5, "Input/output error")
    await looking.check_space()

    assert looking.is_low


async def test_it_checks_until_it_is_stopped() -> None:
    disk = Disk(100)
    looking = watch(disk, Metrics())
    await looking.start()
    disk.free = 0
    async with asyncio.timeout(5):
        while not looking.is_low:  # noqa: ASYNC110 - it is not visible otherwise
            await asyncio.sleep(0.001)
    await looking.stop()


def test_the_free_space_of_this_disk_is_found(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
