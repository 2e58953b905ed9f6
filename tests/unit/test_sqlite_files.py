"""The SQLite store confirms nothing while its files are removed, moved or replaced."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.builders import NOW, accept, arrival
from doubles.dedupe import dedupe_keys
from gatehouse.errors import StoreError, StoreInUseError, StoreUnavailableError
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.case("F-07")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "data").mkdir()
    return folder


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "gatehouse.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await opened(path)
    await accept(store, arrival(b"before"))
    yield store
    await store.close()


async def opened(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, clock=lambda: NOW)


def ending(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def move_all(path: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for end in ("-wal", "-shm", ""):
        ending(path, end).rename(folder / (path.name + end))


def remove_all(path: Path) -> None:
    for end in ("-shm", "-wal", ""):
        ending(path, end).unlink()


def its_own_copy(path: Path) -> None:
    shutil.copy(path, copy := path.with_name("copy"))
    copy.replace(path)


def another(path: Path, *_: object) -> None:
    """Put another store in its place, as a restored backup would be."""
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (c)")


def another_log(path: Path) -> None:
    """Let another program start its own log."""
    for end in ("-wal", "-shm"):
        ending(path, end).rename(ending(path, f"{end}-before"))
        ending(path, end).touch()


async def is_refused(store: SqliteStore, match: str) -> None:
    with pytest.raises(StoreUnavailableError, match=match):
        await accept(store, arrival(b"new"))
    with pytest.raises(StoreUnavailableError, match=match):
        await store.ping()
    with pytest.raises(StoreUnavailableError, match=match):
        await store.known("mandato", dedupe_keys(b"before"), now=NOW)
    with pytest.raises(StoreError, match=match):
        store.check_files()


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (Path.unlink, "is gone"),
        (remove_all, "is gone"),
        (lambda path: move_all(path, path.parent / "elsewhere"), "is gone"),
        (lambda path: path.parent.rename(path.parent.with_name("other")), "is gone"),
        (lambda path: shutil.rmtree(path.parent), "is gone"),
        (another, "is another file now"),
        (its_own_copy, "is another file now"),
        (another_log, "is another file now"),
    ],
    ids=["rm", "rm all", "mv", "mv folder", "rm -r", "another", "its own copy", "another log"],
)
async def test_commits_to_a_file_that_was_moved_are_refused(
    store: SqliteStore, path: Path, loss: Callable[[Path], Any], match: str
) -> None:
    loss(path)

    await is_refused(store, match)


async def test_the_store_continues_without_loss_when_the_files_are_back(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    move_all(path, tmp_path / "elsewhere")
    await is_refused(store, "is gone")
    move_all(tmp_path / "elsewhere" / path.name, path.parent)

    receipts = await accept(store, arrival(b"before"), arrival(b"new"))

    assert [receipt.status for receipt in receipts] == ["duplicate", "accepted"], (
        "what got 503 was not written"
    )
    store.check_files()


@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm")])
async def test_a_removed_log_is_written_back_to_the_file_and_started_again(
    store: SqliteStore, path: Path, tmp_path: Path, ends: tuple[str, ...]
) -> None:
    for end in ends:
        ending(path, end).unlink()
    with pytest.raises(StoreUnavailableError, match="is gone"):
        await accept(store, arrival(b"new"))
    (receipt,) = await accept(store, arrival(b"new"))
    assert receipt.status == "accepted"

    # As after kill -9, only the contents of the files count.
    shutil.copytree(path.parent, tmp_path / "copy")
    copy = await opened(tmp_path / "copy" / path.name)
    receipts = await accept(copy, arrival(b"before"), arrival(b"new"))
    await copy.close()
    assert [receipt.status for receipt in receipts] == ["duplicate", "duplicate"]


async def test_closing_does_not_touch_another_store_at_the_same_path(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    """When SQLite closes, it removes the log by its name, which may be that of a restored backup."""
    backup = tmp_path / "backup"
    move_all(path, backup)
    for end in ("", "-wal", "-shm"):
        shutil.copy(backup / (path.name + end), ending(path, end))
    kept = {end: ending(path, end).read_bytes() for end in ("", "-wal")}
    await is_refused(store, "is another file now")
    await store.close()

    assert {end: ending(path, end).read_bytes() for end in ("", "-wal")} == kept
    restored = await opened(path)
    assert (await accept(restored, arrival(b"before")))[0].status == "duplicate"
    await restored.close()


async def test_commits_during_the_removal_of_the_file_are_refused_or_stored(
    path: Path, tmp_path: Path
) -> None:
    store = await opened(path)
    accepted: list[bytes] = []
    begun = asyncio.Event()

    async def send(sender: int) -> None:
        for number in range(200):
            key = b"%d-%d" % (sender, number)
            try:
                await accept(store, arrival(key))
            except StoreUnavailableError:
                return
            accepted.append(key)
            if len(accepted) == 100:
                begun.set()

    sending = [asyncio.create_task(send(sender)) for sender in range(8)]
    async with asyncio.timeout(20):
        await begun.wait()
    await asyncio.to_thread(move_all, path, tmp_path / "elsewhere")
    await asyncio.gather(*sending)
    assert len(accepted) < 1600
    await store.close()

    moved = await opened(tmp_path / "elsewhere" / path.name)
    receipts = await accept(moved, *map(arrival, accepted))
    await moved.close()
    assert {receipt.status for receipt in receipts} == {"duplicate"}


@pytest.mark.parametrize("how", ["link", "linked folder", "relative"])
async def test_the_lock_covers_all_names_of_a_file(
    store: SqliteStore, path: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names").mkdir()
    match how:
        case "link":
            (name := tmp_path / "names" / "it.db").symlink_to(path)
        case "linked folder":
            (tmp_path / "names" / "data").symlink_to(path.parent)
            name = tmp_path / "names" / "data" / path.name
        case _:
            monkeypatch.chdir(path.parent)
            name = type(path)(path.name)

    with pytest.raises(StoreInUseError):
        await opened(name)


async def test_a_second_hard_link_is_refused(path: Path) -> None:
    await (await opened(path)).close()
    path.with_name("second.db").hardlink_to(path)
    for name in (path, path.with_name("second.db")):
        with pytest.raises(StoreError, match="2 names"):
            await opened(name)


async def test_a_symbolic_link_that_now_points_to_another_file_is_detected(
    path: Path, tmp_path: Path
) -> None:
    (link := tmp_path / "it.db").symlink_to(path)
    store = await opened(link)
    await accept(store, arrival(b"1"))
    link.unlink()
    link.symlink_to(tmp_path / "new.db")
    with pytest.raises(StoreUnavailableError, match=r"it\.db is gone"):
        await accept(store, arrival(b"2"))
    (tmp_path / "new.db").touch()
    with pytest.raises(StoreUnavailableError, match=r"it\.db is another file now"):
        await accept(store, arrival(b"2"))
    link.unlink()
    link.symlink_to(path)
    assert (await accept(store, arrival(b"1")))[0].status == "duplicate"
    await store.close()


_OPENS = """
import asyncio, pathlib, sys
from gatehouse.store.sqlite import SqliteStore
async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()
    await store.close()
asyncio.run(main())
"""


async def test_a_lock_whose_file_was_removed_is_renewed_or_the_store_is_given_up(
    store: SqliteStore, path: Path
) -> None:
    ending(path, ".lock").unlink()
    store.check_files()
    with pytest.raises(StoreInUseError):
        await opened(path)

    ending(path, ".lock").unlink()
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OPENS, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"open\n"
    with pytest.raises(StoreInUseError):
        store.check_files()
    with pytest.raises(StoreUnavailableError, match="in use by another"):
        await accept(store, arrival(b"new"))
    await other.communicate(b"")
    store.check_files()
    assert (await accept(store, arrival(b"before")))[0].status == "duplicate"
