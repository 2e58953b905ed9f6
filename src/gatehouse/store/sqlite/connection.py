"""SQLite connections as the store wants them, and the one place where the driver's errors become ours."""

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

#: STRICT tables, UPDATE … FROM, RETURNING and the JSON functions built in.
OLDEST_SQLITE: Final = (3, 38, 0)

#: How long to wait for another process's lock. Two waits in a row, one's own and that of the batch before,
#: have to leave time to answer 503 within the commit deadline of 800 ms.
_BUSY_TIMEOUT: Final = 0.25

_PRAGMAS: Final[Mapping[str, str | int]] = {
    "journal_mode": "wal",
    # Sync the log at every commit. With NORMAL, commits we answered 200 to could be gone after a power cut.
    "synchronous": 2,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "busy_timeout": int(_BUSY_TIMEOUT * 1000),
    "journal_size_limit": 64 * 1024 * 1024,
    # A stray pointer must not reach the file.
    "mmap_size": 0,
    "trusted_schema": 0,
    # MEMORY
    "temp_store": 2,
    # Builds differ in the default; overwriting what a purge deletes would double its writes.
    "secure_delete": 0,
}
#: cache_size is in KiB: the inner pages of a tree of 10 M dedupe keys, and the leaves in use.
_WRITER: Final = {**_PRAGMAS, "wal_autocheckpoint": 1000, "cache_size": -64 * 1024}
#: SQLite before 3.51.3 can corrupt the file when two connections write or checkpoint at one moment.
_READER: Final = {**_PRAGMAS, "wal_autocheckpoint": 0, "cache_size": -4 * 1024, "query_only": 1}

#: A statement is cached per number of rows in it; see statements.py.
_CACHED_STATEMENTS: Final = 512

#: What may pass or can be put right, by primary result code (sqlite.org/rescode.html): message and hint.
_PASSING: Final[Mapping[int, tuple[str, str | None]]] = {
    sqlite3.SQLITE_BUSY: ("the store is locked by another program", "close whatever has it open"),
    sqlite3.SQLITE_LOCKED: ("the store is locked", None),
    sqlite3.SQLITE_FULL: ("the disk of the store is full", "make room on it"),
    sqlite3.SQLITE_IOERR: ("the disk of the store fails", "look in the kernel's log"),
    sqlite3.SQLITE_CANTOPEN: ("the store can't be opened", "let this user write the file and its directory"),
    sqlite3.SQLITE_READONLY: ("the store can't be written", "let this user write the file and its directory"),
    sqlite3.SQLITE_PROTOCOL: ("the store is locked", None),
    sqlite3.SQLITE_NOMEM: ("out of memory", None),
}
#: After these a connection can't be trusted: what the kernel failed to sync, it may since have dropped from
#: its cache and call clean, so that the next fsync succeeds without the data being on disk. SQLITE_FULL is
#: not among them: what does not fit is refused before it is written, and the transaction is rolled back. An
#: fsync for which there is no room is an SQLITE_IOERR. And opening anew takes room.
_BREAKING: Final = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
#: The primary code of an extended one.
_PRIMARY: Final = 0xFF

# The driver stores bytes and None as they are, but first looks for something that would make another value of
# them. To find one that changes nothing is much cheaper than the exceptions that a search in vain ends in:
# there are seven such values an event. The driver has one such list for the whole process.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), cast("Any", {}.get))


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole transaction in one go.

    Each awaited call of aiosqlite is a hop to its thread and back; five of them per batch cost more than the
    statements do.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=1)
        # A gateway that failed before it closed the store has to be able to exit. What the thread was in the
        # middle of is rolled back by the next start, as after any crash.
        self._thread.daemon = True

    async def open(self) -> None:
        """Start the thread and open the file on it."""
        try:
            await self
        except sqlite3.Error as error:
            # aiosqlite has told its thread to stop but does not wait: the thread could come to report that to
            # an event loop which is closed by then.
            await asyncio.to_thread(self._thread.join)
            raise store_error(error) from error

    async def abandon(self) -> None:
        """Use it no more, and leave its files open for as long as the process lasts.

        The last connection that is closed removes the log by its name, which may be somebody else's by then.
        """
        if self._connection is not None:
            # Python closes what it frees, at the latest when it ends: so this is never freed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None
        ended = self.stop()
        if ended is not None:
            # Else the thread could come to report it to an event loop that is closed by then.
            await ended

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `work` on the connection's thread, with its errors turned into ours."""
        if not self._running or self._connection is None:
            raise StoreUnavailableError("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # As aiosqlite's own calls do, but for a coroutine each.
        self._tx.put_nowait((future, partial(_run, work, self._connection)))
        return future


def _run(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    try:
        return work(connection)
    except sqlite3.Error as error:
        raise store_error(error) from error


async def connect(path: Path, *, query_only: bool = False) -> Connection:
    """Open a connection and make sure that every setting took. The writer creates the file."""
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
    # Takes only in a file without tables and before WAL is switched on; in any other it does nothing.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        row = connection.execute(f"PRAGMA {name}").fetchone()
        # No row: the setting was compiled out.
        found = row[0] if row else 0
        if found != value:
            raise StoreError(
                f"SQLite did not take PRAGMA {name} = {value}: it is {found}",
                hint="the store needs a local disk (no network file system) and an ordinary SQLite",
            )


def check_version(version: tuple[int, ...]) -> None:
    """Refuse an SQLite that lacks what the store is written in."""
    if version < OLDEST_SQLITE:
        found, needed = (".".join(map(str, number)) for number in (version, OLDEST_SQLITE))
        raise StoreError(
            f"SQLite {found} is too old: {needed} or newer is needed",
            hint="use a Python that is linked with a newer SQLite, as in the container image",
        )


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the WAL-reset bug, fixed in 3.51.3 and in the 3.50.7 and 3.44.6 patches."""
    if version[:2] in {(3, 44), (3, 50)}:
        return version < ((3, 44, 6) if version[1] == 44 else (3, 50, 7))  # noqa: PLR2004 - versions
    return (3, 7, 0) <= version < (3, 51, 3)


def store_error(error: Exception) -> StoreError:
    """Turn an error of the driver into ours, with the driver's as its cause."""
    passing = _PASSING.get(_primary_code(error))
    if passing is None:
        converted = StoreError(f"the store failed: {_describe(error)}")
    else:
        message, hint = passing
        converted = StoreUnavailableError(f"{message}: {_describe(error)}", hint=hint)
    converted.__cause__ = error
    return converted


def breaks_connection(error: BaseException | None) -> bool:
    """Whether the connection that this came from must not be used again."""
    return _primary_code(error) in _BREAKING


def _primary_code(error: BaseException | None) -> int:
    """Return the result code without its extension; 0 (SQLITE_OK) for an error that SQLite did not make."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY


def _describe(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)
