"""Faults of the disk below the SQLite store: which ones end a connection, and how the next one starts."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, arrival
from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.connection import breaks_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

#: SQLITE_IOERR and its extended codes that this Python has names for (sqlite.org/rescode.html).
IO_ERRORS = sorted(name for name in dir(sqlite3) if name.startswith("SQLITE_IOERR"))
CORRUPT = sorted(name for name in dir(sqlite3) if name.startswith("SQLITE_CORRUPT"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    yield store
    await store.close()


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("made up")
    error.sqlite_errorcode = code
    return error


def failing(code: int) -> Callable[[sqlite3.Connection], None]:
    def fail(_: sqlite3.Connection) -> None:
        raise failure(code)

    return fail


def test_python_names_the_errors_of_fsync_and_of_a_full_disk() -> None:
    assert {"SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"} <= set(IO_ERRORS)


@pytest.mark.parametrize(
    "name", [*IO_ERRORS, *CORRUPT, "SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_READONLY"]
)
def test_a_fault_of_the_file_ends_the_connection(name: str) -> None:
    assert breaks_connection(failure(getattr(sqlite3, name)))


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_BUSY", "SQLITE_CONSTRAINT", "SQLITE_ERROR"])
def test_a_statement_that_was_refused_does_not_end_the_connection(name: str) -> None:
    assert not breaks_connection(failure(getattr(sqlite3, name)))
    assert not breaks_connection(None)
    assert not breaks_connection(ValueError())


@pytest.mark.case("D-22")
@pytest.mark.parametrize("name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_CORRUPT"])
async def test_both_connections_are_reopened_after_a_fault(store: SqliteStore, name: str) -> None:
    """An fsync that failed is never repeated on the same file descriptor."""
    await accept(store, arrival(b"1"))
    await store.counts()
    writer, reader = await store._database.writer(), store._database._reader
    with pytest.raises(StoreError):
        await store._write(failing(getattr(sqlite3, name)))
    assert (await accept(store, arrival(b"1")))[0].status == "duplicate"
    await store.counts()
    assert await store._database.writer() is not writer
    assert store._database._reader is not reader


async def test_all_operations_of_a_transaction_fail_with_it(store: SqliteStore) -> None:
    """To repeat them would write to a file whose state on the disk is unknown."""
    first = asyncio.create_task(accept(store, arrival(b"1")))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(
        accept(store, arrival(b"2")),
        store._write(failing(sqlite3.SQLITE_IOERR_FSYNC)),
        accept(store, arrival(b"3")),
        return_exceptions=True,
    )
    await first
    failed = [isinstance(each, StoreUnavailableError) for each in outcomes]
    assert failed[1]
    receipts = await accept(store, arrival(b"2"), arrival(b"3"))
    assert [each.status == "accepted" for each in receipts] == [failed[0], failed[2]]


async def test_the_log_is_written_back_before_new_commits(store: SqliteStore, path: Path) -> None:
    """The kernel may call pages of the log clean that are not on the disk. A copy writes them again."""
    log = path.with_name("gatehouse.db-wal")
    other = sqlite3.connect(path)
    other.execute("SELECT count(*) FROM events").fetchall()
    await accept(store, arrival(b"1"))
    assert log.stat().st_size > 0
    with pytest.raises(StoreUnavailableError):
        await store._write(failing(sqlite3.SQLITE_IOERR_FSYNC))
    await store.ping()
    assert log.stat().st_size == 0
    other.close()


async def test_the_store_is_unavailable_while_the_log_cannot_be_written_back(
    store: SqliteStore, path: Path
) -> None:
    await accept(store, arrival(b"1"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM events").fetchall()
    await accept(store, arrival(b"2"))
    with pytest.raises(StoreUnavailableError):
        await store._write(failing(sqlite3.SQLITE_IOERR_FSYNC))
    with pytest.raises(StoreUnavailableError, match="written back"):
        await accept(store, arrival(b"3"))
    other.execute("COMMIT")
    other.close()
    receipts = await accept(store, arrival(b"1"), arrival(b"2"), arrival(b"3"))
    assert [each.status for each in receipts] == ["duplicate", "duplicate", "accepted"]


async def test_a_transaction_that_cannot_be_rolled_back_ends_the_connection(store: SqliteStore) -> None:
    """Otherwise every later BEGIN would fail, without an error that shows that the connection is broken."""
    before = await store._database.writer()

    def forbid(action: int, first: str | None, *_: object) -> int:
        rollback = action == sqlite3.SQLITE_TRANSACTION and first == "ROLLBACK"
        return sqlite3.SQLITE_DENY if rollback else sqlite3.SQLITE_OK

    await before.run(lambda connection: connection.set_authorizer(forbid))
    with pytest.raises(StoreError, match="made up"):
        await store._write(failing(sqlite3.SQLITE_ERROR))
    assert (await accept(store, arrival(b"1")))[0].status == "accepted"
    assert await store._database.writer() is not before


async def test_a_full_disk_does_not_end_the_connection(store: SqliteStore) -> None:
    """To open a connection needs space. With the old one, delivered events can still be recorded."""
    before = await store._database.writer()
    with pytest.raises(StoreUnavailableError, match="full"):
        await store._write(failing(sqlite3.SQLITE_FULL))
    await store.ping()
    assert await store._database.writer() is before
