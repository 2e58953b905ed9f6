"""What only the SQLite store guarantees: its settings, one process, its schema, and disk faults."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from conformance.builders import NEVER, NOW, accept, arrival, event, lease, past, result
from gatehouse.errors import (
    SchemaVersionError,
    StoreError,
    StoreInUseError,
    StoreUnavailableError,
)
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.connection import Connection, check_version, connect, has_wal_reset_bug
from gatehouse.store.sqlite.schema import migrate, migrations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    yield store
    await store.close()


@pytest.fixture
def no_database(path: Path) -> Path:
    path.write_bytes(b"this is no database" * 100)
    return path


def remove(path: Path) -> None:
    path.unlink()


def move(path: Path, to: Path) -> None:
    path.rename(to)


async def on_writer(store: SqliteStore, work: Callable[[sqlite3.Connection], Any]) -> Any:
    return await (await store._database.writer()).run(work)


async def query(store: SqliteStore, sql: str) -> Any:
    return await on_writer(store, lambda connection: connection.execute(sql).fetchall())


async def traced(store: SqliteStore) -> list[str]:
    """Return a list to which the statements of the writer are added from now on."""
    statements: list[str] = []
    await on_writer(store, lambda connection: connection.set_trace_callback(statements.append))
    return statements


@pytest.mark.case("D-21")
async def test_a_second_store_on_the_same_file_is_refused(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreInUseError, match="in use by another gatehouse") as caught:
        await SqliteStore.open(path)
    assert caught.value.hint


async def test_only_the_gateways_user_can_read_the_files(store: SqliteStore, path: Path) -> None:
    """Bodies are in the file and in its log. The umask does not matter."""
    await accept(store, arrival(b"k"))

    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        f"{path.name}{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock")
    }


HOLD = """
import asyncio, pathlib, sys
from conformance.builders import accept, arrival
from gatehouse.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    await accept(store, arrival(b"k", leased=True))
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.case("D-21")
async def test_a_second_process_is_refused_until_the_first_one_was_killed(path: Path) -> None:
    """The events that the first process accepted are there."""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    arguments = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as holder:  # noqa: ASYNC220 - short
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        started = time.monotonic()
        with pytest.raises(StoreInUseError, match=f"process {holder.pid}"):
            await SqliteStore.open(path)
        assert time.monotonic() - started < 1
        holder.kill()
    store = await SqliteStore.open(path, clock=lambda: NOW)
    (receipt,) = await accept(store, arrival(b"k"))
    assert receipt.status == "duplicate"
    assert [each.attempts for each in await lease(store)] == [1]
    await store.close()


async def test_closing_releases_the_lock(store: SqliteStore, path: Path) -> None:
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_a_store_that_could_not_be_opened_holds_no_lock(no_database: Path) -> None:
    with pytest.raises(StoreError):
        await SqliteStore.open(no_database)
    remove(no_database)
    await (await SqliteStore.open(no_database)).close()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/gatehouse\.db") as caught:
        await SqliteStore.open(tmp_path / "missing" / "gatehouse.db")
    assert "create the directory" in str(caught.value.hint)


async def test_a_file_that_is_not_a_database_is_refused(no_database: Path) -> None:
    with pytest.raises(StoreError, match="not a database") as caught:
        await SqliteStore.open(no_database)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


async def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be opened") as caught:
        await SqliteStore.open(tmp_path)
    assert caught.value.hint


async def test_a_setting_that_sqlite_does_not_accept_is_an_error() -> None:
    """A store in memory has no log that could be synced."""
    with pytest.raises(StoreError, match="PRAGMA journal_mode = wal: it is memory") as caught:
        await connect(":memory:")  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.case("U-01")
async def test_a_newer_schema_is_refused_and_not_changed(path: Path) -> None:
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 1000")
    newer.close()
    with pytest.raises(SchemaVersionError, match="schema version 1000") as caught:
        await SqliteStore.open(path)
    assert caught.value.hint
    left = sqlite3.connect(path)
    assert left.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    left.close()


def test_an_sqlite_that_is_too_old_is_refused() -> None:
    with pytest.raises(StoreError, match=r"SQLite 3\.37\.2 is too old: 3\.38\.0"):
        check_version((3, 37, 2))
    check_version((3, 38, 0))


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, ...], has_bug: bool) -> None:
    assert has_wal_reset_bug(version) is has_bug


SETTINGS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "journal_size_limit": 67108864,
    "mmap_size": 0,
    "trusted_schema": 0,
    "temp_store": 2,
    "auto_vacuum": 2,
}


@pytest.mark.parametrize(
    ("connection", "own"),
    [
        ("writer", {"wal_autocheckpoint": 1000, "query_only": 0}),
        ("reader", {"wal_autocheckpoint": 0, "query_only": 1}),
    ],
)
async def test_each_connection_has_its_settings(
    store: SqliteStore, connection: str, own: dict[str, int]
) -> None:
    expected = SETTINGS | own

    def read(on: sqlite3.Connection) -> dict[str, Any]:
        return {name: on.execute(f"PRAGMA {name}").fetchone()[0] for name in expected}

    found = await (on_writer(store, read) if connection == "writer" else store._database.read(read))
    assert found == expected


async def test_the_commit_deadline_leaves_time_for_two_waits_on_a_lock(store: SqliteStore) -> None:
    ((milliseconds,),) = await query(store, "PRAGMA busy_timeout")
    assert 2 * milliseconds < 800


def test_single_migrations_give_the_same_schema_as_all_at_once(path: Path) -> None:
    def schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()

    at_once = sqlite3.connect(":memory:", isolation_level=None)
    migrate(at_once)
    one_by_one = sqlite3.connect(path, isolation_level=None)
    for number, migration in enumerate(migrations(), start=1):
        one_by_one.executescript(migration)
        one_by_one.execute(f"PRAGMA user_version = {number}")
    assert schema(one_by_one) == schema(at_once)
    migrate(one_by_one)
    assert schema(one_by_one) == schema(at_once)
    assert at_once.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    at_once.close()
    one_by_one.close()


def test_a_migration_that_fails_leaves_nothing_behind() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE dedupe_keys (in_the_way)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("dedupe_keys",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()


async def test_opening_again_applies_no_migration(store: SqliteStore, path: Path) -> None:
    before = await query(store, "PRAGMA schema_version")
    await store.close()
    again = await SqliteStore.open(path)
    assert await query(again, "PRAGMA schema_version") == before
    await again.close()


async def test_the_file_is_intact_after_use(store: SqliteStore) -> None:
    await accept(store, *[arrival(b"%d" % number, until=NOW, to=["a", "b"]) for number in range(100)])
    await store.record([result(each) for each in await lease(store, "a")])
    await store.record([result(each, "dead") for each in await lease(store, "b", limit=50)])
    await store.purge(now=NOW, events_before=NOW + 1, dead_before=NOW + 1, limit=70)
    assert await query(store, "PRAGMA integrity_check") == [("ok",)]
    assert await query(store, "PRAGMA foreign_key_check") == []


async def test_closing_writes_the_log_back_to_the_file(store: SqliteStore, path: Path) -> None:
    await accept(store, arrival())
    await store.counts()
    assert path.with_name("gatehouse.db-wal").exists()
    await store.close()
    assert not path.with_name("gatehouse.db-wal").exists()


async def test_many_free_pages_are_returned_to_the_disk(store: SqliteStore) -> None:
    for _ in range(3):
        await accept(store, *[arrival(to=[], of=event(b"x" * 500_000)) for _ in range(16)])
    ((before,),) = await query(store, "PRAGMA page_count")
    step = await store.purge(now=NOW, events_before=NOW + 1, dead_before=0, limit=100)
    assert (step.events, step.done) == (48, False)
    while not step.done:
        step = await store.purge(now=NOW, events_before=NOW + 1, dead_before=0, limit=100)
    ((after,),) = await query(store, "PRAGMA page_count")
    assert before > 5000 > after


async def test_operations_that_wait_together_share_a_commit(store: SqliteStore) -> None:
    statements = await traced(store)
    first = asyncio.create_task(accept(store, arrival(b"1")))
    await asyncio.sleep(0)
    await asyncio.gather(
        accept(store, arrival(b"2")),
        accept(store, arrival(b"3")),
        lease(store),
        store.ping(),
        store.purge(now=NOW, events_before=0, dead_before=0, limit=10),
    )
    await first
    assert statements.count("COMMIT") in {1, 2}


async def test_a_batch_of_any_size_takes_few_statements(store: SqliteStore) -> None:
    """Each step of a statement releases the GIL and has to acquire it again."""
    statements = await traced(store)
    await accept(store, *[arrival(b"%d" % number, b"x%d" % number) for number in range(64)])
    assert len(statements) == 6
    statements.clear()
    deliveries = await lease(store)
    assert len(statements) == 4
    statements.clear()
    await store.record([result(each) for each in deliveries])
    assert len(statements) == 4


async def test_a_failing_operation_does_not_fail_the_others(store: SqliteStore) -> None:
    poison = arrival(b"3", of=event(subject="\ud800"))
    outcomes = await asyncio.gather(
        accept(store, arrival(b"1")),
        accept(store, arrival(b"2"), poison),
        accept(store, arrival(b"4")),
        store.ping(),
        return_exceptions=True,
    )
    assert [isinstance(each, StoreError) for each in outcomes] == [False, True, False, False]
    assert isinstance(outcomes[1], StoreError)
    assert isinstance(outcomes[1].__cause__, UnicodeEncodeError)
    assert len(await lease(store)) == 2
    assert (await accept(store, arrival(b"2")))[0].status == "accepted"


async def test_the_operation_of_a_canceled_caller_is_not_written(store: SqliteStore) -> None:
    tasks = [asyncio.create_task(accept(store, arrival(b"%d" % number))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await lease(store)) == 2


@pytest.mark.alone
@pytest.mark.case("O-03")
async def test_a_locked_file_makes_the_store_unavailable_and_it_recovers(
    store: SqliteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    outcomes = await asyncio.gather(
        store.accept([arrival(b"1")], deadline=time.monotonic() + 0.8),
        store.accept([arrival(b"2")], deadline=time.monotonic() + 0.8),
        store.ping(),
        return_exceptions=True,
    )
    assert all(isinstance(each, StoreUnavailableError) for each in outcomes)
    assert "locked by another program" in str(outcomes[0])
    assert time.monotonic() - started < 0.8
    other.execute("ROLLBACK")
    other.close()
    assert [each.status for each in await accept(store, arrival(b"1"), arrival(b"2"))] == ["accepted"] * 2


@pytest.mark.case("D-13")
async def test_a_full_disk_makes_the_store_unavailable_and_leaves_no_partial_writes(
    store: SqliteStore,
) -> None:
    ((pages,),) = await query(store, "PRAGMA page_count")
    await query(store, f"PRAGMA max_page_count = {pages + 10}")
    big = arrival(b"big", of=event(b"x" * 200_000))
    outcomes = await asyncio.gather(
        accept(store, big), accept(store, arrival(b"small")), return_exceptions=True
    )
    assert isinstance(outcomes[0], StoreUnavailableError)
    assert "full" in str(outcomes[0])
    assert not isinstance(outcomes[1], BaseException)
    assert await query(store, "SELECT count(*) FROM events") == [(1,)]
    assert await query(store, "SELECT count(*) FROM dedupe_keys") == [(1,)]
    await store.ping()
    await query(store, "PRAGMA max_page_count = 1000000")
    assert (await accept(store, big))[0].status == "accepted"
    assert await query(store, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.case("D-22")
async def test_a_broken_connection_is_replaced(store: SqliteStore, path: Path) -> None:
    """After a failed fsync the connection is replaced, and leases stay valid."""
    await accept(store, arrival(b"1", leased=True))
    before = await store._database.writer()

    def fail(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with pytest.raises(StoreUnavailableError):
        await store._write(fail)
    (receipt,) = await accept(store, arrival(b"1"))
    assert receipt.status == "duplicate"
    assert await store._database.writer() is not before
    assert await lease(store, now=NOW + 29) == []
    assert [each.attempts for each in await lease(store, now=NOW + 30)] == [1]


async def test_a_broken_reading_connection_is_replaced(store: SqliteStore) -> None:
    def fail(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    await store.counts()
    before = store._database._reader
    with pytest.raises(StoreUnavailableError):
        await store._read(fail)
    assert await store.counts() == {}
    assert store._database._reader is not before


async def test_a_failed_query_does_not_replace_the_reading_connection(store: SqliteStore) -> None:
    await store.counts()
    before = store._database._reader
    with pytest.raises(StoreError, match="no such table"):
        await store._read(lambda connection: connection.execute("SELECT 1 FROM missing"))
    await store.counts()
    assert store._database._reader is before


async def test_a_missing_file_is_not_created_again(store: SqliteStore, path: Path) -> None:
    """An empty store in the place of a lost one would accept every duplicate as new."""
    await accept(store, arrival(b"1"))
    moved = path.with_name("elsewhere")
    await store._database.discard()
    move(path, moved)
    with pytest.raises(StoreUnavailableError, match="is gone"):
        await accept(store, arrival(b"1"))
    with pytest.raises(StoreUnavailableError, match="is gone"):
        await store.counts()
    assert store.size() == 0
    move(moved, path)
    assert (await accept(store, arrival(b"1")))[0].status == "duplicate"


async def test_a_ping_fails_while_the_writer_hangs(store: SqliteStore) -> None:
    hanging = asyncio.create_task(store._write(lambda _: time.sleep(0.8)))
    await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        await store.ping()
    await hanging


@pytest.mark.case("D-07")
async def test_an_operation_that_waited_past_its_deadline_is_not_written(store: SqliteStore) -> None:
    slow = asyncio.create_task(store._write(lambda _: time.sleep(0.2)))
    await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError, match="too slow"):
        await store.accept([arrival(b"k")], deadline=time.monotonic() + 0.05)
    await slow
    assert await query(store, "SELECT count(*) FROM events") == [(0,)]


async def test_a_transaction_that_took_too_long_is_rolled_back(store: SqliteStore) -> None:
    asked = time.monotonic() + 0.05
    outcomes = await asyncio.gather(
        store.accept([arrival(b"late")], deadline=asked),
        store.accept([arrival(b"in time")], deadline=NEVER),
        store._write(lambda _: time.sleep(0.1)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], StoreUnavailableError)
    assert not isinstance(outcomes[1], BaseException)
    assert await query(store, "SELECT count(*) FROM events") == [(1,)]
    with pytest.raises(StoreUnavailableError):
        await store.accept([arrival(b"late")], deadline=past())


def test_bytes_and_none_are_stored_unchanged() -> None:
    """The store registers adapters that change nothing."""
    connection = sqlite3.connect(":memory:")
    row = connection.execute("SELECT ?1, typeof(?1), ?2, typeof(?2)", (b"\x00\xff", None)).fetchone()
    connection.close()
    assert row == (b"\x00\xff", "blob", None, "null")


async def test_a_closed_connection_is_unavailable() -> None:
    connection = Connection(lambda: sqlite3.connect(":memory:"))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await connection.run(lambda _: None)
