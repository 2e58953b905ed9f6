"""The SQLite file: held for this process alone, with one connection that writes and one that reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

from gatehouse.errors import StoreError, StoreInUseError, StoreUnavailableError
from gatehouse.store.sqlite.connection import breaks_connection, connect
from gatehouse.store.sqlite.files import FilesLostError, StoreFiles
from gatehouse.store.sqlite.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatehouse.store.sqlite.connection import Connection

T = TypeVar("T")


class SqliteFile:
    """Opens its connections when they are needed, and again after they were discarded."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._files = StoreFiles(path)
        self._path = self._files.path
        #: What a new writer does first: migrate and the like.
        self._prepare = prepare
        self._lock = FileLock(self._path)
        self._opening = asyncio.Lock()
        #: What `writer` returns, when it is open already.
        self.open_writer: Connection | None = None
        self._reader: Connection | None = None
        self._was_open = False
        #: Raises `FilesLostError` unless the files are where they were opened.
        self.check = self._files.check

    async def writer(self) -> Connection:
        """Return the connection for everything that writes, checkpoints among it."""
        async with self._opening:
            if self.open_writer is None:
                self.open_writer = await self._open_writer()
            return self.open_writer

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run what may take long on the other connection: it sees what was committed before."""
        # A writer first: it makes the file what a reader can rely on.
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
            # An empty store in the place of a lost one would take every repetition for new.
            self._files.check_file()
        _make_private(self._path)
        self._look_at_file()
        connection = await connect(self._path)
        try:
            if self._was_open:
                self._files.check_file()
                await connection.run(empty_log)
            else:
                self._files.when_open()
            await connection.run(self._prepare)
            self._files.when_prepared()
        except BaseException:
            await self._let_go(connection)
            raise
        self._was_open = True
        return connection

    def _look_at_file(self) -> None:
        try:
            self._files.before_opening()
        except OSError:
            return  # SQLite will say what is wrong

    async def _open_reader(self) -> Connection:
        async with self._opening:
            if self._reader is None:
                connection = await connect(self._path, query_only=True)
                try:
                    self._files.check()
                except FilesLostError:
                    await self._let_go(connection)
                    raise
                self._reader = connection
            return self._reader

    async def discard(self) -> None:
        """Close the connections. The next use opens them again, and SQLite recovers what is on disk."""
        reader, writer = self._reader, self.open_writer
        self._reader = self.open_writer = None
        # The writer last: whoever is last to close moves the log into the file.
        for connection in (reader, writer):
            if connection is not None:
                await self._let_go(connection)

    async def _let_go(self, connection: Connection) -> None:
        if self._files.may_be_closed():
            await _close(connection)
        else:
            await connection.abandon()

    async def close(self) -> None:
        """Let go of the file. Idempotent."""
        await self.discard()
        self._lock.release()

    @property
    def directory(self) -> Path:
        """Where the file is, whatever links lead to it."""
        return self._path.parent

    def look(self) -> None:
        """Raise `StoreError` unless the files are where they were opened, and the lock is held."""
        self._files.check_places()
        try:
            self._lock.renew()
        except StoreInUseError as error:
            self._files.taken = FilesLostError(str(error), hint=error.hint)
            raise
        self._files.taken = None

    def size(self) -> int:
        """Return the bytes on disk, by stat: see lock.py for why the file is never opened."""
        return _size(self._path) + _size(self._path.with_name(self._path.name + "-wal"))


def _make_private(path: Path) -> None:
    """Make the file, if it is not there, for this user alone: bodies are in it. Its log has its mode."""
    with contextlib.suppress(OSError):  # there already, or SQLite will say what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def empty_log(connection: sqlite3.Connection) -> None:
    """Move the log into the file, and begin it anew.

    After an fsync that failed, the log may hold what the kernel calls clean and never wrote. Commits behind
    it would be lost with it in a power cut, however well they are synced. Copied, it is written once more.
    """
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreUnavailableError(
            "the store's log can't be written back while something else reads it", hint="close whatever does"
        )


async def _close(connection: Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        await connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
