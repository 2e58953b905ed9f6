"""Copies a SQLite file while a gateway uses it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import sqlite3
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatehouse.errors import StoreError
from gatehouse.store.sqlite.connection import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds to wait for a lock of the gateway.
_BUSY_TIMEOUT: Final = 5.0
#: The number of pages that one step copies: with the usual page size, 1 MiB.
_PAGES_PER_STEP: Final = 256
#: The maximum pause after a step, in seconds. A pause is as long as its step, so that the copy uses at most
#: half of the disk's time.
_MAX_PAUSE: Final = 0.25
#: The errors of file systems without hard links.
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
#: SQLite's errors of writes. Only the copy is written.
_WRITE_FAILED: Final = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_CLOSE,
)
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TAKES_SPACE: Final = "free some space there, or name a file on another disk"


def back_up(path: Path, target: Path, report: Callable[[int, int], None]) -> int:
    """Copy the file at `path` to `target`, which must not exist. Returns the size of the copy in bytes.

    The copy is what was committed when it began. It is fsynced and checked before it gets its name. Raises
    `StoreError`, and then leaves nothing behind. What a killed copy to the same target left is removed first.
    """
    if not path.is_file():
        raise StoreError(f"{path} is not a file", hint="name the config of the gateway with -c FILE")
    if os.path.lexists(target):
        raise _exists(target)
    _remove_left_over(target)
    _check_space(path, target)
    with _partial(target) as (partial, descriptor):
        try:
            _copy(path, partial, descriptor, report)
            _check(partial)
        except sqlite3.Error as error:
            raise _copy_error(target, error) from error
        except OSError as error:
            raise _unwritable(target, error) from error
        _publish(partial, target)
    return target.stat().st_size


def _remove_left_over(target: Path) -> None:
    """Remove the files into which killed processes of this user copied. A running copy locks its file."""
    name = re.compile(re.escape(target.name) + r"\.[0-9]+\.partial")
    with contextlib.suppress(OSError):
        for path in [path for path in target.absolute().parent.iterdir() if name.fullmatch(path.name)]:
            with contextlib.suppress(OSError):
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def _check_space(path: Path, target: Path) -> None:
    logged = Path(f"{os.path.realpath(path)}-wal")
    needed = path.stat().st_size + (logged.stat().st_size if logged.exists() else 0)
    try:
        free = shutil.disk_usage(target.absolute().parent).free
    except OSError as error:
        raise _unwritable(target, error) from error
    if free < needed:
        raise StoreError(
            f"{target}: the copy needs {needed:,} bytes, and the disk has {free:,} bytes free",
            hint=_TAKES_SPACE,
        )


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[tuple[Path, int]]:
    """Create and lock the file to copy into, which only this user can read. It is removed at the end.

    Yields its path and a descriptor.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        _lock(partial, descriptor)
        yield partial, descriptor
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)  # after a success, the copy keeps its other name


def _lock(partial: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: nothing that is left there is removed
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not partial.exists():
        raise StoreError(f"{partial} was removed before it was locked", hint="run the command again")


def _copy(path: Path, partial: Path, descriptor: int, report: Callable[[int, int], None]) -> None:
    with (
        # A read-only connection never writes the log back into the file, not even when it closes.
        contextlib.closing(_connect(path, "mode=ro")) as source,
        # No other process uses the copy. On network file systems, SQLite's locks can collide with `_lock`.
        contextlib.closing(_connect(partial, "mode=rw&nolock=1")) as copy,
    ):
        # The copy has no name yet, so it needs no journal.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        # Without an open transaction, SQLite would start again after each commit of the gateway.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        began = time.monotonic()

        def progress(_: int, remaining: int, total: int) -> None:
            nonlocal began
            # Each step is written to the disk at once. Otherwise the gateway's next fsync would have to wait
            # for everything that was copied since.
            os.fsync(descriptor)
            report(total - remaining, total)
            if remaining:
                time.sleep(min(time.monotonic() - began, _MAX_PAUSE))
            began = time.monotonic()

        source.backup(copy, pages=_PAGES_PER_STEP, progress=progress)


def _check(partial: Path) -> None:
    # SQLite would create a log for a file in WAL mode, unless the file can't change.
    with contextlib.closing(_connect(partial, "mode=ro&immutable=1")) as copy:
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreError(
            f"the copy is damaged: {found}",
            hint="check the store itself with sqlite3 FILE 'PRAGMA integrity_check'",
        )


def _publish(partial: Path, target: Path) -> None:
    """Make the copy durable, and give it its name unless something has that name meanwhile."""
    try:
        _fsync(partial)
        _rename(partial, target)
        _fsync(target.absolute().parent)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise _unwritable(target, error) from error


def _rename(partial: Path, target: Path) -> None:
    """Rename a file. Raises `FileExistsError` if the new name is taken, which `os.rename` would overwrite."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError from error
        partial.rename(target)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)


def _exists(target: Path) -> StoreError:
    return StoreError(f"{target} already exists", hint="name a file that does not exist yet")


def _copy_error(target: Path, error: sqlite3.Error) -> StoreError:
    """Tell the errors of the copy from those of the store."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{target} can't be written: its disk is full", hint=_TAKES_SPACE)
    if code in _WRITE_FAILED:
        return StoreError(f"{target} can't be written: {error} ({error.sqlite_errorname})", hint=_TAKES_SPACE)
    return store_error(error)


def _unwritable(target: Path, error: OSError) -> StoreError:
    hint = _TAKES_SPACE if error.errno in _NO_SPACE else "name a file in a directory of this user"
    return StoreError(f"{target} can't be written: {error.strerror or error}", hint=hint)
