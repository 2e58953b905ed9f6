"""Writes to the SQLite file: operations that wait while a transaction runs share the next transaction.

An fsync costs the same for one operation as for many. So an accept, the results of attempts, a lease and a
purge step that wait at the same time are committed together.
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
from gatehouse.store.sqlite.database import empty_log
from gatehouse.store.sqlite.files import FilesLostError, LogLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.sqlite.database import SqliteDatabase

T = TypeVar("T")

_MAX_SHARED: Final = 64


class Operation(Generic[T]):
    """Work inside a transaction, with its result or error. It may run again, so it must not keep state."""

    __slots__ = ("deadline", "error", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], deadline: float) -> None:
        self.work = work
        #: In `time.monotonic()`: the operation must not be committed later.
        self.deadline = deadline
        self.result: T | None = None
        self.error: Exception | None = None


class Writer:
    """Runs operations on the writing connection. Each one is committed as a whole, or not at all."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._batcher: Batcher[Operation[Any], Operation[Any]] = Batcher(self._write, limit=_MAX_SHARED)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, deadline: float = math.inf) -> T:
        """Run `work` in a transaction, and return its result once the transaction is committed."""
        operation = await self._batcher.submit(Operation(work, deadline))
        if operation.error is None:
            return cast("T", operation.result)
        if isinstance(operation.error, StoreError):
            raise operation.error
        raise store_error(operation.error) from operation.error

    async def drain(self) -> None:
        """Wait until all operations have been committed or refused."""
        await self._batcher.drain()

    async def _write(self, operations: Sequence[Operation[Any]]) -> Sequence[Operation[Any]]:
        connection = self._database.open_writer or await self._database.writer()
        work = partial(_run_all, operations=operations, check=self._database.check)
        if await connection.run(work):
            await self._database.discard()
        return operations


class _BeginFailedError(Exception):
    """The transaction could not begin. It would be the same for each operation alone."""


class _DeadlinePassedError(Exception):
    """The deadline of an operation has passed."""


def _run_all(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> bool:
    """Run the operations. Returns whether the connection must be closed, because it can't be used again."""
    _run_operations(connection, operations, check)
    for operation in operations:
        if isinstance(operation.error, LogLostError):
            return _recover_log(connection)
        if breaks_connection(operation.error):
            return True
    return connection.in_transaction


def _recover_log(connection: sqlite3.Connection) -> bool:
    """Write a log that was removed back to the file. Returns whether that worked, so a new one can start."""
    try:
        empty_log(connection)
    except (sqlite3.Error, StoreError):
        return False  # a reader still uses it: the next operation tries again
    return True


def _run_operations(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> None:
    """Give each operation a result or an error. It runs on the connection's thread."""
    waiting = _refuse_late(operations)
    if not waiting:
        return
    try:
        _commit_together(connection, waiting, check)
    except _DeadlinePassedError:
        _run_operations(connection, waiting, check)
    except FilesLostError as error:
        _fail(waiting, error)
    except _BeginFailedError as error:
        _fail(waiting, cast("Exception", error.__cause__))
    except Exception as error:  # noqa: BLE001 - the caller of the operation gets it, whatever it is
        if len(waiting) == 1 or breaks_connection(error):
            _fail(waiting, error)
            return
        # One of them caused the error. Alone, each gets its own result.
        for operation in waiting:
            _run_operations(connection, [operation], check)


def _commit_together(
    connection: sqlite3.Connection, operations: Sequence[Operation[Any]], check: Callable[[], None]
) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except Exception as error:
        raise _BeginFailedError from error
    try:
        for operation in operations:
            operation.result = operation.work(connection)
        if min(operation.deadline for operation in operations) < time.monotonic():
            raise _DeadlinePassedError  # noqa: TRY301 - rolled back like any other failure
        # The check before COMMIT: a file that is put back later must not contain events that got a 503. The
        # check after it: nothing must be confirmed that is in a file which is gone.
        check()
        connection.execute("COMMIT")
        check()
    except BaseException:
        # SQLite has rolled back by itself after some errors.
        if connection.in_transaction:
            # The first error is the one to report. If the rollback fails too, the connection is closed.
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
