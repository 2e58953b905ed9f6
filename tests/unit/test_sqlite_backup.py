"""A copy of a SQLite file that is in use."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gatehouse.errors import StoreError
from gatehouse.store.sqlite.backup import back_up
from machine import lacking

ROWS = 3_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """Create a file in WAL mode, and keep it open as a gateway does."""
    path = tmp_path / "gatehouse.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE events (id INTEGER, body BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO events VALUES (?, randomblob(1000))", [(n,) for n in range(ROWS)])
        connection.execute("COMMIT")
        yield path


def rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM events").fetchone()
        return int(number)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("gatehouse.db")}


def test_a_copy_contains_everything_that_was_committed_when_it_began(store: Path, tmp_path: Path) -> None:
    """Commits during the copy are never refused, are not in the copy, and don't let it start again."""
    seen: list[tuple[int, int]] = []

    with contextlib.closing(sqlite3.connect(store, isolation_level=None, timeout=0)) as gateway:

        def report(done: int, total: int) -> None:
            gateway.execute("INSERT INTO events VALUES (-1, randomblob(1000))")
            seen.append((done, total))

        size = back_up(store, tmp_path / "copy.db", report)

    assert rows(tmp_path / "copy.db") == ROWS
    assert len(seen) > 2
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == seen[-1][1]
    assert size == (tmp_path / "copy.db").stat().st_size
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == {"copy.db"}


def test_an_existing_file_is_not_overwritten(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreError, match=r"copy\.db already exists"):
        back_up(store, tmp_path / "copy.db", lambda _done, _total: None)

    other = tmp_path / "other.db"

    def write_other(_done: int, _total: int) -> None:
        other.write_text("too")

    with pytest.raises(StoreError, match=r"other\.db already exists"):
        back_up(store, other, write_other)

    assert (tmp_path / "copy.db").read_text() == "precious"
    assert other.read_text() == "too"
    assert names(tmp_path) == {"copy.db", "other.db"}


def test_an_interrupted_copy_leaves_nothing_behind(store: Path, tmp_path: Path) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(store, tmp_path / "copy.db", interrupt)

    assert names(tmp_path) == set()


class Usage(NamedTuple):
    free: int


def test_a_source_that_cannot_be_copied_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="is not a file"):
        back_up(tmp_path / "nothing.db", tmp_path / "copy.db", lambda _done, _total: None)
    with pytest.raises(StoreError, match="can't be written: No such file or directory"):
        back_up(store, tmp_path / "nowhere" / "copy.db", lambda _done, _total: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=1000))
    with pytest.raises(StoreError, match="the disk has 1,000 bytes free"):
        back_up(store, tmp_path / "copy.db", lambda _done, _total: None)

    assert names(tmp_path) == set()


def test_what_a_killed_copy_left_is_removed_and_what_another_copy_writes_is_not(
    store: Path, tmp_path: Path
) -> None:
    """A child is killed in the middle of its copy, while another one to the same file is in progress."""
    target, running = tmp_path / "copy.db", f"copy.db.{os.getpid()}.partial"
    program = (
        "import os, pathlib, signal, sys; from gatehouse.store.sqlite.backup import back_up;"
        "back_up(*map(pathlib.Path, sys.argv[1:]), lambda *_: os.kill(os.getpid(), signal.SIGKILL))"
    )
    foreign = {"copy.db.partial", "copy.db.old.partial", "other.db.12.partial"}
    for name in foreign:
        (tmp_path / name).write_text("not of a copy to this file")
    (tmp_path / "copy.db.1.partial").symlink_to(store)
    left: list[set[str]] = []

    def kill_another(_done: int, _total: int) -> None:
        if not left:
            killed = subprocess.run([sys.executable, "-c", program, str(store), str(target)], check=False)
            assert killed.returncode == -signal.SIGKILL
            left.append(names(tmp_path) - foreign - {running, "copy.db.1.partial"})

    back_up(store, target, kill_another)
    assert len(left[0]) == 1, "the killed copy did not remove the file of the running one"
    target.unlink()
    back_up(store, target, lambda _done, _total: None)

    assert rows(target) == ROWS
    assert names(tmp_path) == foreign | {"copy.db", "copy.db.1.partial"}
    assert store.is_file()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB. Skips the test if nothing can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    if os.geteuid() != 0 or mount is None or subprocess.run([mount, *options], check=False).returncode:
        lacking("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_becomes_full_is_named_and_nothing_is_left_on_it(
    store: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=1_000_000_000))
    with pytest.raises(StoreError, match=r"copy\.db can't be written: ") as caught:
        back_up(store, full_disk / "copy.db", lambda _done, _total: None)
    assert caught.value.hint == "free some space there, or name a file on another disk"
    assert names(full_disk) == set()


def test_a_copy_that_grows_too_large_is_named_and_removed(store: Path, tmp_path: Path) -> None:
    """The limit of the process stands in for a disk that becomes full during the copy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreError, match=r"copy\.db can't be written: disk I/O error") as caught:
            back_up(store, tmp_path / "copy.db", lambda _done, _total: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint == "free some space there, or name a file on another disk"
    assert names(tmp_path) == set()


def test_a_damaged_file_is_reported_and_not_kept(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged.db"
    back_up(store, copy, lambda _done, _total: None)
    content = bytearray(copy.read_bytes())
    content[8192:12288] = bytes(4096)
    copy.write_bytes(content)

    with pytest.raises(StoreError, match=r"damaged|malformed"):
        back_up(copy, tmp_path / "second.db", lambda _done, _total: None)
    assert "second.db" not in names(tmp_path)
