"""The PostgreSQL server of the tests behaves as they expect."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from postgres_server import Database, PostgresServer, is_in_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TESTS = Path(__file__).parents[1]
HOLDS_ONE = """
from postgres_server import PostgresServer
server = PostgresServer().__enter__()
print(server.port, server.folder, flush=True)
input()
"""


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url, password=database.password)
    try:
        yield connection
    finally:
        await connection.close()


async def test_copies_of_a_database_have_its_content_and_are_independent(
    postgres: PostgresServer, empty_database: Database
) -> None:
    async with connected(empty_database) as connection:
        await connection.execute("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)")
    copies = [postgres.create_database(template=empty_database.name) for _ in range(2)]
    async with connected(copies[0]) as connection:
        await connection.execute("INSERT INTO kept VALUES (2)")
    async with connected(copies[1]) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 1
    for copy in copies:
        postgres.drop_database(copy.name)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_a_database_survives_a_restart(
    postgres: PostgresServer, empty_database: Database, how: signal.Signals
) -> None:
    async with connected(empty_database) as connection:
        await connection.execute("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)")
    with postgres.stopped(how), pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(empty_database.url, password=empty_database.password)
    async with connected(empty_database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM kept") == 1


async def test_the_gateways_role_needs_its_password_and_is_not_a_superuser(empty_database: Database) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(empty_database.url, password="another")
    async with connected(empty_database) as connection:
        assert await connection.fetchval("SHOW is_superuser") == "off"


async def test_settings_apply_within_a_block(postgres: PostgresServer, empty_database: Database) -> None:
    with postgres.running_with(synchronous_commit="off"):
        async with connected(empty_database) as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "off"
    async with connected(empty_database) as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_the_server_ends_with_the_process_that_started_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS_ONE, stdin=-1, stdout=-1, env={"PYTHONPATH": str(TESTS)}
    )
    assert process.stdout is not None
    port, folder = (await process.stdout.readline()).split()
    assert is_in_use(int(port))
    process.kill()
    await process.wait()
    async with asyncio.timeout(20):
        # PostgreSQL removes its file last. The end of a grandchild process is not reported.
        while is_in_use(int(port)) or Path(folder.decode(), "data/postmaster.pid").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    shutil.rmtree(folder.decode())
