"""The SQLite file, used by this process alone, with one connection that writes and one that reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from gatehouse.errors import StoreError, StoreInUseError, StoreUnavailableError
from gatehouse.store.sqlite.connection import breaks_connection, connect
from gatehouse.store.sqlite.files import FileLock, FilesLostError, StoreFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatehouse.store.sqlite.connection import Connection

T = TypeVar("T")


class SqliteDatabase:
    """Opens its connections when they are needed, and again after they were discarded."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._files = StoreFiles(path)
        self._path = self._files.path
        #: Called with each new writing connection, to migrate the file for example.
        self._prepare = prepare
        self._lock = FileLock(self._path)
        self._opening = asyncio.Lock()
        #: The connection that `writer` returns; None while it is not open.
        self.open_writer: Connection | None = None
        self._reader: Connection | None = None
        self._was_open = False
        #: Raises `FilesLostError` unless the files are where they were opened.
        self.check = self._files.check

    async def writer(self) -> Connection:
        """Return the connection for everything that writes, including checkpoints."""
        async with self._opening:
            if self.open_writer is None:
                self.open_writer = await self._open_writer()
            return self.open_writer

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which may take long, on the reading connection. It sees what was committed before."""
        # The writer comes first: it prepares the file for readers.
        if self.open_writer is None:
            await self.writer()
        self._files.check()
        connection = await self._open_reader()
        try:
            return await connection.run(work)
        except StoreError as error:
            if breaks_connection(error.__cause__) and connection is self._reader:
                self._reader = None
                await _close(connection)
            raise

    async def _open_writer(self) -> Connection:
        if self._was_open:
            # An empty store in the place of a lost one would accept every duplicate as new.
            self._files.check_database()
        _create_private(self._path)
        self._check_hard_links()
        connection = await connect(self._path)
        try:
            if self._was_open:
                self._files.check_database()
                await connection.run(empty_log)
            else:
                self._files.remember_database()
            await connection.run(self._prepare)
            self._files.remember_logs()
        except BaseException:
            await self._close_or_abandon(connection)
            raise
        self._was_open = True
        return connection

    def _check_hard_links(self) -> None:
        try:
            self._files.check_hard_links()
        except OSError:
            return  # SQLite reports what is wrong

    async def _open_reader(self) -> Connection:
        async with self._opening:
            if self._reader is None:
                connection = await connect(self._path, query_only=True)
                try:
                    self._files.check()
                except FilesLostError:
                    await self._close_or_abandon(connection)
                    raise
                self._reader = connection
            return self._reader

    async def discard(self) -> None:
        """Close the connections. The next use opens them again, and SQLite recovers what is on the disk."""
        reader, writer = self._reader, self.open_writer
        self._reader = self.open_writer = None
        # The writer is closed last, because the last connection writes the log back to the file.
        for connection in (reader, writer):
            if connection is not None:
                await self._close_or_abandon(connection)

    async def _close_or_abandon(self, connection: Connection) -> None:
        if self._files.can_be_closed():
            await _close(connection)
        else:
            await connection.abandon()

    async def close(self) -> None:
        """Close the connections and release the lock. Idempotent."""
        await self.discard()
        self._lock.release()

    @property
    def directory(self) -> Path:
        """The directory of the real file, whatever links lead to it."""
        return self._path.parent

    def check_files_and_lock(self) -> None:
        """Raise `StoreError` unless the files are where they were opened and this process has the lock."""
        self._files.check_all()
        try:
            self._lock.renew()
        except StoreInUseError as error:
            self._files.taken_over = FilesLostError(str(error), hint=error.hint)
            raise
        self._files.taken_over = None

    def size(self) -> int:
        """Return the bytes on disk, by stat. See files.py for why the file is never opened."""
        return _size(self._path) + _size(self._path.with_name(self._path.name + "-wal"))


def _create_private(path: Path) -> None:
    """Create the file for this user alone, because it contains bodies. SQLite gives the log the same mode."""
    with contextlib.suppress(OSError):  # it exists, or SQLite reports what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def empty_log(connection: sqlite3.Connection) -> None:
    """Write the log back to the file, and start a new one.

    After an fsync that failed, the log may contain pages that the kernel calls clean and never wrote. A power
    cut would then lose all later commits of this log, even if they were synced. Copying the pages into the
    file writes them again.
    """
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreUnavailableError(
            "the store's log can't be written back while another program reads it",
            hint="close the program that reads it",
        )


async def _close(connection: Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        await connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
