"""The connections of a process: opened when needed, shared, and bounded.

The driver's own pool opens a connection within the time of whoever asks for it, so that callers with little
time would never get one from a server that is slow after a fail-over; and it resets connections with a round
trip after each use. Here they are opened apart from who waits, and while there is no server nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.postgres.errors import DRIVER_ERRORS, READ_ONLY, breaks_connection, store_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from gatehouse.store.postgres.connecting import Connection

#: After a connection could not be made: how long nobody tries another (seconds).
_PAUSE_AFTER_FAULT: Final = 0.25
#: How long a server may take to confirm that it gave up a statement.
_CANCELLING: Final = 1.0
_CLOSING: Final = 2.0


class Pool:
    """Lends connections that were made the same way."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, size: int) -> None:
        self._connect = connect
        self._size = size
        self._free: list[Connection] = []
        #: How many there are, or are to be: lent, free, being opened.
        self._count = 0
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Why the last connection could not be made.
        self._fault: Exception | None = None
        self._fault_until = 0.0
        #: Connections of earlier generations are not lent again.
        self._generation = 0
        self._closed = False

    @asynccontextmanager
    async def use(self, *, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109
        """Lend a connection. Raises `StoreError` for whatever the driver raises, also within."""
        try:
            connection = await self._take(timeout)
        except DRIVER_ERRORS as error:
            raise store_error(error) from error
        generation = self._generation
        try:
            yield connection
        except BaseException as error:
            self._give_back_after(connection, error)
            if isinstance(error, DRIVER_ERRORS):
                raise store_error(error) from error
            raise
        if generation != self._generation:
            self._drop(connection)
        else:
            self._give_back(connection)

    async def close(self) -> None:
        """Close the free connections; those that are lent are closed when they come back."""
        self._closed = True
        self._fault = StoreUnavailableError("the store is closed")
        self._refuse_if_none()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        free, self._free = self._free, []
        for connection in free:
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=_CLOSING)

    def expire(self) -> None:
        """Use none of these connections again: their server is not the one to write to any more."""
        self._generation += 1
        free, self._free = self._free, []
        for connection in free:
            self._drop(connection)

    async def _take(self, timeout: float | None) -> Connection:  # noqa: ASYNC109 - of the wait alone
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._count -= 1
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._open_another()
        if not self._count:
            raise self._refusal()
        future: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_back(future.result())
            raise

    def _open_another(self) -> None:
        if self._fault is not None and time.monotonic() >= self._fault_until:
            self._fault = None
        if self._fault is None and self._count < self._size:
            self._count += 1
            self._spawn(self._open())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        generation = self._generation
        try:
            connection = await self._connect()
        except asyncio.CancelledError:
            self._count -= 1
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
            self._count -= 1
            self._fault = error
            self._fault_until = time.monotonic() + _PAUSE_AFTER_FAULT
            self._refuse_if_none()
            return
        self._fault = None
        if self._closed or generation != self._generation:
            self._drop(connection)
        else:
            self._give_back(connection)

    def _refusal(self) -> StoreUnavailableError:
        fault = StoreUnavailableError("no connection") if self._fault is None else store_error(self._fault)
        # Each time another one, and of this kind: at the start it may have been fatal, now it is to pass.
        error = StoreUnavailableError(fault.message, hint=fault.hint)
        error.__cause__ = self._fault
        return error

    def _refuse_if_none(self) -> None:
        """Let nobody wait when nothing comes."""
        while self._waiting and (self._closed or not self._count):
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._refusal())

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.is_closed():
            self._drop(connection)
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        self._free.append(connection)

    def _give_back_after(self, connection: Connection, error: BaseException) -> None:
        if getattr(error, "sqlstate", None) == READ_ONLY:
            self.expire()
            self._drop(connection)
        elif connection.is_closed() or breaks_connection(error):
            self._drop(connection)
        elif connection.is_in_transaction() or isinstance(error, TimeoutError | asyncio.CancelledError):
            # A statement may still be running: the driver has asked the server to give it up.
            self._spawn(self._settle(connection))
        else:
            self._give_back(connection)

    async def _settle(self, connection: Connection) -> None:
        try:
            await connection.execute("ROLLBACK", timeout=_CANCELLING)
        except DRIVER_ERRORS as error:
            if isinstance(error, TimeoutError):
                # Nobody is there. One by one the others would cost each who is lent one all its time.
                self.expire()
            self._drop(connection)
        except BaseException:
            self._drop(connection)
            raise
        else:
            self._give_back(connection)

    def _drop(self, connection: Connection) -> None:
        self._count -= 1
        connection.terminate()
        if self._waiting and not self._closed:
            self._open_another()
            self._refuse_if_none()
