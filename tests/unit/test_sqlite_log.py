"""The write-ahead log grows during a long read, and shrinks after it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from conformance.builders import accept, arrival, event
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
#: The size to which the log is truncated (see `journal_size_limit`).
LIMIT = 64 * MIB


async def write(store: SqliteStore, mebibytes: int) -> None:
    for _ in range(mebibytes):
        await accept(store, arrival(to=[], of=event(bytes(MIB))))


@pytest.mark.case("D-17")
async def test_a_log_that_a_reader_has_kept_long_is_truncated_after_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "gatehouse.db"
    log = path.with_name("gatehouse.db-wal")
    store = await SqliteStore.open(path)
    await write(store, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        ((before,),) = reader.execute("SELECT count(*) FROM events").fetchall()
        await write(store, 72)
        held_up = log.stat().st_size
        size, file = store.size(), path.stat().st_size
        ((during,),) = reader.execute("SELECT count(*) FROM events").fetchall()
        reader.execute("COMMIT")
    # One commit writes the log back to the file, and the next one starts it again.
    await write(store, 2)

    assert before == during == 1
    assert held_up > LIMIT
    assert size == file + held_up  # the value of gatehouse_store_bytes
    assert log.stat().st_size <= LIMIT
    await store.close()


@pytest.mark.case("D-17")
async def test_without_a_reader_the_log_stays_short_after_many_writes(tmp_path: Path) -> None:
    path = tmp_path / "gatehouse.db"
    store = await SqliteStore.open(path)
    await write(store, 40)
    await store.counts()

    assert path.with_name("gatehouse.db-wal").stat().st_size < 10 * MIB
    await store.close()
