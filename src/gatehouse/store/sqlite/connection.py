"""Opens SQLite connections with the settings that the store needs, and converts the driver's errors."""

from __future__ import annotations

import asyncio
import ctypes
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import aiosqlite

from gatehouse.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

#: The first version with STRICT tables, UPDATE … FROM, RETURNING and built-in JSON functions.
OLDEST_SQLITE: Final = (3, 38, 0)

#: How long to wait for the lock of another process (seconds). Two waits in a row, for this batch and the one
#: before it, must leave time to answer 503 within the commit deadline of 800 ms.
_BUSY_TIMEOUT: Final = 0.25

_PRAGMAS: Final[Mapping[str, str | int]] = {
    "journal_mode": "wal",
    # FULL: sync the log at each commit. With NORMAL, a power cut could lose commits that were answered with
    # 200.
    "synchronous": 2,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "busy_timeout": int(_BUSY_TIMEOUT * 1000),
    "journal_size_limit": 64 * 1024 * 1024,
    # Off, because a stray pointer could write to the file.
    "mmap_size": 0,
    "trusted_schema": 0,
    # MEMORY
    "temp_store": 2,
    # The default differs between builds. Overwriting deleted rows would double the writes of a purge.
    "secure_delete": 0,
}
#: cache_size is in KiB. It is enough for the inner pages of 10 million dedupe keys, and the leaves in use.
_WRITER: Final = {**_PRAGMAS, "wal_autocheckpoint": 1000, "cache_size": -64 * 1024}
#: SQLite before 3.51.3 can corrupt the file when two connections write or checkpoint at the same moment.
_READER: Final = {**_PRAGMAS, "wal_autocheckpoint": 0, "cache_size": -4 * 1024, "query_only": 1}

#: There is a statement for each number of rows (see rows.py).
_CACHED_STATEMENTS: Final = 512

#: Faults that pass or that an operator can fix, by primary result code (sqlite.org/rescode.html): message and
#: hint.
_TRANSIENT: Final[Mapping[int, tuple[str, str | None]]] = {
    sqlite3.SQLITE_BUSY: ("the store is locked by another program", "close the program that has it open"),
    sqlite3.SQLITE_LOCKED: ("the store is locked", None),
    sqlite3.SQLITE_FULL: ("the disk of the store is full", "free some space on it"),
    sqlite3.SQLITE_IOERR: ("the disk of the store fails", "check the kernel's log"),
    sqlite3.SQLITE_CANTOPEN: ("the store can't be opened", "let this user write the file and its directory"),
    sqlite3.SQLITE_READONLY: ("the store can't be written", "let this user write the file and its directory"),
    sqlite3.SQLITE_PROTOCOL: ("the store is locked", None),
    sqlite3.SQLITE_NOMEM: ("out of memory", None),
}
#: After these errors a connection must not be used again. If the kernel failed to sync a page, it may have
#: marked the page as clean, and the next fsync succeeds without the data on the disk. SQLITE_FULL is not one
#: of them: what does not fit is refused before it is written, and the transaction is rolled back. An fsync
#: without space is an SQLITE_IOERR. Opening a connection would need space too.
_BREAKING: Final = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
#: The bits of an extended result code that are the primary one.
_PRIMARY: Final = 0xFF

# The driver stores bytes and None unchanged, but first searches for an adapter. An adapter that changes
# nothing is much cheaper than the exceptions that an unsuccessful search raises, and there are seven such
# values per event. The driver has one list of adapters for the whole process.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), cast("Any", {}.get))


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole transaction in one call.

    Each awaited call of aiosqlite switches to its thread and back. Five of them per batch would cost more
    than the statements.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=1)
        # A gateway that failed before it closed the store must be able to exit. The next start rolls back the
        # transaction that the thread was in, as after any crash.
        self._thread.daemon = True

    async def open(self) -> None:
        """Start the thread and open the file on it."""
        try:
            await self
        except sqlite3.Error as error:
            # aiosqlite has told its thread to stop, but does not wait for it. The thread could later report
            # to an event loop that is closed.
            await asyncio.to_thread(self._thread.join)
            raise store_error(error) from error

    async def abandon(self) -> None:
        """Stop using the connection, but keep its files open until the process ends.

        When SQLite closes the last connection, it removes the log by its name. That log may belong to another
        process by now.
        """
        if self._connection is not None:
            # Python closes a connection when it frees it, at the latest when it ends. So this one is never
            # freed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None
        ended = self.stop()
        if ended is not None:
            # Otherwise the thread could later report to an event loop that is closed.
            await ended

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `work` on the connection's thread. Errors of the driver become `StoreError`."""
        if not self._running or self._connection is None:
            raise StoreUnavailableError("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # The same as aiosqlite's own calls, but without a coroutine for each.
        self._tx.put_nowait((future, partial(_run, work, self._connection)))
        return future


def _run(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    try:
        return work(connection)
    except sqlite3.Error as error:
        raise store_error(error) from error


async def connect(path: Path, *, query_only: bool = False) -> Connection:
    """Open a connection, and check that each setting was accepted. The writer creates the file."""
    connector = partial(
        sqlite3.connect,
        path,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,
        cached_statements=_CACHED_STATEMENTS,
    )
    connection = Connection(connector)
    await connection.open()
    try:
        await connection.run(partial(_configure, pragmas=_READER if query_only else _WRITER))
    except BaseException:
        await connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, pragmas: Mapping[str, str | int]) -> None:
    # This has an effect only in a file without tables, before WAL is switched on.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        row = connection.execute(f"PRAGMA {name}").fetchone()
        # There is no row if SQLite was built without the setting.
        found = row[0] if row else 0
        if found != value:
            raise StoreError(
                f"SQLite did not take PRAGMA {name} = {value}: it is {found}",
                hint="the store needs a local disk (no network file system) and an ordinary SQLite",
            )


def check_version(version: tuple[int, ...]) -> None:
    """Raise `StoreError` if the SQLite library is too old for the store's statements."""
    if version < OLDEST_SQLITE:
        found, needed = (".".join(map(str, number)) for number in (version, OLDEST_SQLITE))
        raise StoreError(
            f"SQLite {found} is too old: {needed} or newer is needed",
            hint="use a Python that is linked with a newer SQLite, as in the container image",
        )


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether a version has the WAL-reset bug, which is fixed in 3.51.3, 3.50.7 and 3.44.6."""
    if version[:2] in {(3, 44), (3, 50)}:
        return version < ((3, 44, 6) if version[1] == 44 else (3, 50, 7))  # noqa: PLR2004 - versions
    return (3, 7, 0) <= version < (3, 51, 3)


def store_error(error: Exception) -> StoreError:
    """Convert an error of the driver. The original error is the cause of the returned one."""
    transient = _TRANSIENT.get(_primary_code(error))
    if transient is None:
        converted = StoreError(f"the store failed: {_describe(error)}")
    else:
        message, hint = transient
        converted = StoreUnavailableError(f"{message}: {_describe(error)}", hint=hint)
    converted.__cause__ = error
    return converted


def breaks_connection(error: BaseException | None) -> bool:
    """Tell whether the connection that raised an error must not be used again."""
    return _primary_code(error) in _BREAKING


def _primary_code(error: BaseException | None) -> int:
    """Return the primary result code; 0 (SQLITE_OK) for an error that does not come from SQLite."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY


def _describe(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)
