"""A file with many free pages becomes smaller, in short steps."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance.builders import NOW, accept, arrival, event
from gatehouse.config.model import StoreConfig
from gatehouse.store.retention import Retention, pause_after, rows_per_step
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.purging import _VACUUM_PAGES
from gatehouse.telemetry.metrics import Metrics

BODY = bytes(16_000)
#: Enough for more pages than the store keeps free.
EVENTS = 1200


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Return a store that contains only expired events."""
    store = await SqliteStore.open(tmp_path / "gatehouse.db")
    for _ in range(EVENTS // 50):
        await accept(store, *[arrival(of=event(BODY, received=NOW), to=[]) for _ in range(50)])
    yield store
    await store.close()


async def pages(store: SqliteStore, which: str) -> int:
    def ask(connection: sqlite3.Connection) -> int:
        return int(connection.execute(f"PRAGMA {which}").fetchone()[0])

    return await store._write(ask)


@pytest.mark.case("O-16")
async def test_each_step_gives_a_number_of_pages_back(store: SqliteStore) -> None:
    while (await store.purge(now=NOW, events_before=NOW + 1, dead_before=NOW, limit=100)).events:
        pass
    before = await pages(store, "freelist_count")
    assert before > 4096
    purged = await store.purge(now=NOW, events_before=NOW + 1, dead_before=NOW, limit=100)

    assert not purged.done
    assert before - await pages(store, "freelist_count") == _VACUUM_PAGES


@pytest.mark.case("O-16")
async def test_a_sweep_makes_the_file_smaller(store: SqliteStore) -> None:
    before = await pages(store, "page_count")
    retention = Retention(store, StoreConfig(), Metrics(), lambda: time.time() + 365 * 86400)
    await retention.sweep()

    assert before > 4096
    assert await pages(store, "page_count") <= 4096


def test_a_sweep_pauses_as_long_as_a_step_took() -> None:
    assert [pause_after(took) for took in (0.0, 0.005, 0.08, 5.0)] == [0.05, 0.05, 0.08, 1.0]


def test_a_sweep_that_falls_behind_makes_larger_steps() -> None:
    minutes = (0, 14, 15, 31, 60, 24 * 60)
    assert [rows_per_step(minute * 60.0) for minute in minutes] == [100, 100, 200, 300, 500, 1000]
