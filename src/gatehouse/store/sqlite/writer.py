"""The one that writes to the SQLite file: what waits while a transaction is under way shares the next one.

An fsync costs the same for one operation as for many, so an accept, the outcomes of attempts, a lease and a
purge step that wait together are committed together.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.batch import Batcher
from gatehouse.store.sqlite.connection import breaks_connection, store_error
from gatehouse.store.sqlite.file import empty_log
from gatehouse.store.sqlite.files import FilesLostError, LogLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.sqlite.file import SqliteFile

T = TypeVar("T")

_MAX_SHARED: Final = 64


class Operation(Generic[T]):
    """Some work inside a transaction, and what became of it. It can be run again, so it keeps no state."""

    __slots__ = ("deadline", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], deadline: float) -> None:
        self.work = work
        #: In `time.monotonic()`: not to be committed later.
        self.deadline = deadline
        self.result: T | None = None
        self.error: Exception | None = None


class Writer:
    """Runs operations on the writing connection, each wholly or not at all."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._batcher: Batcher[Operation[Any], Operation[Any]] = Batcher(self._write, limit=_MAX_SHARED)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, deadline: float = math.inf) -> T:
        """Run `work` in a transaction and return its result when that is committed."""
        operation = await self._batcher.submit(Operation(work, deadline))
        if operation.error is None:
            return cast("T", operation.result)
        if isinstance(operation.error, StoreError):
            raise operation.error
        raise store_error(operation.error) from operation.error

    async def drain(self) -> None:
        """Wait until everything asked for has been done or refused."""
        await self._batcher.drain()

    async def _write(self, operations: Sequence[Operation[Any]]) -> Sequence[Operation[Any]]:
        connection = self._file.open_writer or await self._file.writer()
        work = partial(_settle_all, operations=operations, check=self._file.check)
        if await connection.run(work):
            await self._file.discard()
        return operations


class _NotBegunError(Exception):
    """No transaction could be had: it would be the same for each operation alone."""


class _TooLateError(Exception):
    """Some operation's deadline passed."""


def _settle_all(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> bool:
    """Settle the operations. Whether that broke the connection, or left a transaction that can't be ended."""
    _settle(connection, operations, check)
    for operation in operations:
        if isinstance(operation.error, LogLostError):
            return _saves_log(connection)
        if breaks_connection(operation.error):
            return True
    return connection.in_transaction


def _saves_log(connection: sqlite3.Connection) -> bool:
    """Move a log that was removed into the file. Whether that worked, so that a new one can be made."""
    try:
        empty_log(connection)
    except (sqlite3.Error, StoreError):
        return False  # something reads it still: the next operation tries again
    return True


def _settle(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> None:
    """Give each operation a result or an error. Runs on the connection's thread."""
    waiting = _refuse_late(operations)
    if not waiting:
        return
    try:
        _commit_together(connection, waiting, check)
    except _TooLateError:
        _settle(connection, waiting, check)
    except FilesLostError as error:
        _fail(waiting, error)
    except _NotBegunError as error:
        _fail(waiting, cast("Exception", error.__cause__))
    except Exception as error:  # noqa: BLE001 - whoever asked for the operation gets it, whatever it is
        if len(waiting) == 1 or breaks_connection(error):
            _fail(waiting, error)
            return
        # One of them did it. Alone, each has its own fate.
        for operation in waiting:
            _settle(connection, [operation], check)


def _commit_together(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except Exception as error:
        raise _NotBegunError from error
    try:
        for operation in operations:
            operation.result = operation.work(connection)
        if min(operation.deadline for operation in operations) < time.monotonic():
            raise _TooLateError  # noqa: TRY301 - it takes the same way back as any other failure
        # Before, so that nothing is in a file that is put back for which there was a 503; and after, so that
        # nothing is confirmed that is in a file which was gone by then.
        check()
        connection.execute("COMMIT")
        check()
    except BaseException:
        # SQLite has rolled back by itself after some errors.
        if connection.in_transaction:
            # What went wrong first is what counts; a transaction that is left is the end of the connection.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _refuse_late(operations: Sequence[Operation[Any]]) -> list[Operation[Any]]:
    now = time.monotonic()
    on_time = []
    for operation in operations:
        if operation.deadline < now:
            operation.error = StoreUnavailableError("the store is too slow")
        else:
            on_time.append(operation)
    return on_time


def _fail(operations: Sequence[Operation[Any]], error: Exception) -> None:
    for operation in operations:
        operation.error = error
