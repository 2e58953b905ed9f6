"""The connection pools of a process, and the calls that run on them.

The driver's own pool opens a connection within the timeout of the caller, so a caller with a short timeout
would never get one from a server that is slow after a failover. And it resets a connection with a round trip
after each use. Here connections are opened in tasks of their own, and while there is no server no caller
waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.postgres.connection import (
    COLLISIONS,
    DRIVER_ERRORS,
    HOT,
    READ_ONLY,
    SLOW,
    Connector,
    breaks_connection,
    store_error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence

    from gatehouse.store.postgres.connection import Connection, PostgresSettings

T = TypeVar("T")

#: How long to wait after a connection failed, before the next one is opened (seconds).
_PAUSE_AFTER_FAULT: Final = 0.25
#: How long a server may take to confirm that it canceled a statement (seconds).
_CANCEL_TIMEOUT: Final = 1.0
_CLOSE_TIMEOUT: Final = 2.0


#: Connections for lists, counts and purges.
_SLOW_CONNECTIONS: Final = 2
#: The number of rows that a statement of the hot pool is sure to process in time.
FEW_ROWS: Final = 512
#: How long one call may take (seconds).
_HOT_TIMEOUT: Final = 2.0
_SLOW_TIMEOUT: Final = 20.0
#: How often a call is tried that collides with other transactions.
_TRIES: Final = 5


class Pool:
    """A pool of connections with the same options."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, size: int) -> None:
        self._connect = connect
        self._size = size
        self._free: list[Connection] = []
        #: The number of connections: in use, free, or being opened.
        self._count = 0
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Why the last connection failed.
        self._fault: Exception | None = None
        self._fault_until = 0.0
        #: Connections of earlier generations are not used again.
        self._generation = 0
        self._closed = False

    @asynccontextmanager
    async def use(self, *, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109
        """Acquire a connection for a block. The driver's errors, also in the block, become `StoreError`."""
        try:
            connection = await self._acquire(timeout)
        except DRIVER_ERRORS as error:
            raise store_error(error) from error
        generation = self._generation
        try:
            yield connection
        except BaseException as error:
            self._release_after(connection, error)
            if isinstance(error, DRIVER_ERRORS):
                raise store_error(error) from error
            raise
        if generation != self._generation:
            self._drop(connection)
        else:
            self._release(connection)

    async def close(self) -> None:
        """Close the free connections. Those in use are closed when they are released."""
        self._closed = True
        self._fault = StoreUnavailableError("the store is closed")
        self._fail_waiting_if_empty()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        free, self._free = self._free, []
        for connection in free:
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=_CLOSE_TIMEOUT)

    def expire(self) -> None:
        """Close all connections, because their server does not accept writes any more."""
        self._generation += 1
        free, self._free = self._free, []
        for connection in free:
            self._drop(connection)

    async def _acquire(self, timeout: float | None) -> Connection:  # noqa: ASYNC109 - of the wait alone
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._count -= 1
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._open_another()
        if not self._count:
            raise self._unavailable()
        future: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._release(future.result())
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
        except Exception as error:  # noqa: BLE001 - the waiting callers get it, whatever it is
            self._count -= 1
            self._fault = error
            self._fault_until = time.monotonic() + _PAUSE_AFTER_FAULT
            self._fail_waiting_if_empty()
            return
        self._fault = None
        if self._closed or generation != self._generation:
            self._drop(connection)
        else:
            self._release(connection)

    def _unavailable(self) -> StoreUnavailableError:
        fault = (
            StoreUnavailableError("there is no connection to the database")
            if self._fault is None
            else store_error(self._fault)
        )
        # A new error each time, and always a transient one: at the start the fault may have been fatal.
        error = StoreUnavailableError(fault.message, hint=fault.hint)
        error.__cause__ = self._fault
        return error

    def _fail_waiting_if_empty(self) -> None:
        """Raise an error in all waiting callers if no connection will come."""
        while self._waiting and (self._closed or not self._count):
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._unavailable())

    def _release(self, connection: Connection) -> None:
        if self._closed or connection.is_closed():
            self._drop(connection)
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        self._free.append(connection)

    def _release_after(self, connection: Connection, error: BaseException) -> None:
        if getattr(error, "sqlstate", None) == READ_ONLY:
            self.expire()
            self._drop(connection)
        elif connection.is_closed() or breaks_connection(error):
            self._drop(connection)
        elif connection.is_in_transaction() or isinstance(error, TimeoutError | asyncio.CancelledError):
            # A statement may still run: the driver has asked the server to cancel it.
            self._spawn(self._reset(connection))
        else:
            self._release(connection)

    async def _reset(self, connection: Connection) -> None:
        try:
            await connection.execute("ROLLBACK", timeout=_CANCEL_TIMEOUT)
        except DRIVER_ERRORS as error:
            if isinstance(error, TimeoutError):
                # The server does not answer. The next callers would time out on the other connections.
                self.expire()
            self._drop(connection)
        except BaseException:
            self._drop(connection)
            raise
        else:
            self._release(connection)

    def _drop(self, connection: Connection) -> None:
        self._count -= 1
        connection.terminate()
        if self._waiting and not self._closed:
            self._open_another()
            self._fail_waiting_if_empty()


class ConnectionPools:
    """The hot pool for calls that must be fast, the slow pool for all others, and the calls that use them."""

    def __init__(self, settings: PostgresSettings) -> None:
        connector = Connector(settings)
        self.connect = connector.connect
        self.hot = Pool(partial(connector.connect, HOT), size=settings.connections)
        self.slow = Pool(partial(connector.connect, SLOW), size=_SLOW_CONNECTIONS)
        self.is_closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def for_rows(self, rows: Sequence[object]) -> Pool:
        """Return the pool for a statement about these rows."""
        return self.hot if len(rows) <= FEW_ROWS else self.slow

    async def run(
        self,
        pool: Pool,
        work: Callable[[Connection], Awaitable[T]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - of several steps
    ) -> T:
        """Run `work` on a connection. Raises `StoreError` for all errors of the driver."""
        most = timeout or (_HOT_TIMEOUT if pool is self.hot else _SLOW_TIMEOUT)
        with self._call():
            try:
                async with asyncio.timeout(most):
                    return await _retry_collisions(pool, work)
            except TimeoutError as error:
                raise store_error(error) from error

    async def finish_calls(self) -> None:
        """Refuse new calls, and wait for the running ones."""
        self.is_closed = True
        await self._idle.wait()

    async def close(self) -> None:
        """Close the connections. Call `finish_calls` first."""
        await self.hot.close()
        await self.slow.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self.is_closed:
            raise StoreUnavailableError("the store is closed")
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()


async def _retry_collisions(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `work`, and again if it collided with the transaction of another gateway."""
    for tries_left in reversed(range(_TRIES)):
        try:
            async with pool.use() as connection:
                return await work(connection)
        except StoreError as error:
            if not tries_left or not isinstance(error.__cause__, COLLISIONS):
                raise
    raise AssertionError  # the last try returned or raised
