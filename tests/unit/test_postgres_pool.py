"""The connection pool, without a server: which callers wait or fail, and which connections are reused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest

from gatehouse.errors import StoreError, StoreUnavailableError
from gatehouse.store.postgres.pool import Pool

if TYPE_CHECKING:
    from gatehouse.store.postgres.connection import Connection


class FakeConnection:
    def __init__(self) -> None:
        self.closed = False
        self.rolled_back = 0
        self.hangs = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return False

    async def execute(self, statement: str, **_: object) -> None:
        assert statement == "ROLLBACK"
        if self.hangs:
            raise TimeoutError
        self.rolled_back += 1

    def terminate(self) -> None:
        self.closed = True

    async def close(self, **_: object) -> None:
        self.closed = True


class Server:
    """Accepts connections unless it is down."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.fault: Exception | None = None
        self.tried = 0

    async def connect(self) -> Connection:
        self.tried += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.made.append(FakeConnection())
        return cast("Connection", self.made[-1])

    def pool(self, size: int = 2) -> Pool:
        return Pool(self.connect, size=size)


async def hold(pool: Pool, until: asyncio.Event) -> None:
    async with pool.use():
        await until.wait()


async def test_the_pool_opens_no_more_connections_than_allowed_and_all_callers_get_one() -> None:
    server = Server()
    pool = server.pool(3)
    used: list[object] = []

    async def use() -> None:
        async with pool.use() as connection:
            used.append(connection)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(use() for _ in range(20)))
    assert (len(server.made), len(used)) == (3, 20)
    await pool.close()
    assert all(connection.closed for connection in server.made)


async def test_a_caller_that_times_out_loses_no_connection() -> None:
    server = Server()
    pool = server.pool(1)
    done = asyncio.Event()
    holder = asyncio.create_task(hold(pool, done))
    await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError):
        async with pool.use(timeout=0.01):
            pass
    done.set()
    await holder
    async with pool.use(timeout=1):
        pass
    assert len(server.made) == 1


async def test_without_a_server_no_caller_waits_and_few_connections_are_tried() -> None:
    server = Server()
    server.fault = ConnectionRefusedError(111, "refused")
    pool = server.pool()
    for _ in range(50):
        with pytest.raises(StoreUnavailableError, match="reached"):
            async with pool.use(timeout=5):
                pass
    assert server.tried < 10


async def test_a_fault_that_is_fatal_at_the_start_is_transient_later() -> None:
    server = Server()
    server.fault = StoreError("fsync=off", hint="turn it on")
    with pytest.raises(StoreUnavailableError, match="fsync") as caught:
        async with server.pool().use():
            pass
    assert caught.value.hint == "turn it on"


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    server = Server()
    pool = server.pool(1)
    async with pool.use():
        pass
    server.made[0].closed = True
    async with pool.use() as connection:
        assert connection is cast("Connection", server.made[1])


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_connection_with_a_canceled_statement_is_reset_first(*, hangs: bool) -> None:
    server = Server()
    pool = server.pool(1)
    async with pool.use():
        server.made[0].hangs = hangs
    with pytest.raises(StoreUnavailableError):
        async with pool.use():
            raise TimeoutError
    async with pool.use(timeout=1) as connection:
        assert connection is cast("Connection", server.made[-1])
    assert (len(server.made), server.made[0].rolled_back) == ((2, 0) if hangs else (1, 1))


@pytest.mark.parametrize("hangs", [False, True])
async def test_after_a_failed_reset_no_other_connection_is_used_again(*, hangs: bool) -> None:
    server = Server()
    pool = server.pool(2)
    async with pool.use(), pool.use():
        pass
    for made in server.made:
        made.hangs = hangs
    with pytest.raises(StoreUnavailableError):
        async with pool.use():
            raise TimeoutError
    await asyncio.sleep(0.01)
    async with pool.use(timeout=1), pool.use(timeout=1):
        pass
    assert [made.closed for made in server.made] == ([True, True, False, False] if hangs else [False] * 2)


@pytest.mark.parametrize(
    ("error", "dropped"),
    [
        (asyncpg.AdminShutdownError("bye"), True),
        (asyncpg.UniqueViolationError("twice"), False),
        (ValueError(), False),
    ],
    ids=["of the connection", "of the statement", "of ours"],
)
async def test_only_a_fault_of_the_connection_closes_it(error: Exception, *, dropped: bool) -> None:
    server = Server()
    pool = server.pool(1)
    with pytest.raises((StoreError, ValueError)):
        async with pool.use():
            raise error
    async with pool.use():
        pass
    assert (len(server.made) == 2) is dropped


async def test_a_closed_pool_refuses_callers_and_accepts_released_connections() -> None:
    server = Server()
    pool = server.pool(1)
    done = asyncio.Event()
    holder = asyncio.create_task(hold(pool, done))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(hold(pool, done))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    done.set()
    await asyncio.wait({holder, waiting, closing})
    with pytest.raises(StoreUnavailableError, match="closed"):
        async with pool.use():
            pass
    assert server.made[0].closed
    assert waiting.exception() is None or isinstance(waiting.exception(), StoreUnavailableError)
