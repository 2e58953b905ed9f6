"""The schema of the database: migrates it, and describes what the database contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.postgres import purging
from gatehouse.store.postgres.connection import DRIVER_ERRORS, SLOW, Connector, store_error
from gatehouse.store.schema import TABLES, StoreInfo, check_schema_version, read_migrations, summarize

if TYPE_CHECKING:
    from gatehouse.store.base import Counts
    from gatehouse.store.postgres.connection import Connection, PostgresSettings

#: The key of an advisory lock. Any number works that no other program on the database uses.
_LOCK: Final = 0x6761_7465_686F_7573
#: Other gateways wait while one migrates, and a large table takes time.
_TIMEOUT: Final = 600.0

_EXISTING_TABLES: Final = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL"
_HAS_VERSION: Final = "SELECT to_regclass('gatehouse_schema') IS NOT NULL"
_CREATE_VERSION: Final = (
    "CREATE TABLE gatehouse_schema (version integer NOT NULL); INSERT INTO gatehouse_schema VALUES (0)"
)
_VERSION: Final = "SELECT version FROM gatehouse_schema"

#: The rows of a table with more pages than this are estimated: counting would read 80 MB.
_MAX_COUNTED_PAGES: Final = 10_000
#: The number of tuples is negative until the first ANALYZE or VACUUM.
_TABLE_STATISTICS: Final = """
SELECT pg_relation_size(oid) / current_setting('block_size')::bigint, reltuples::bigint
FROM pg_class WHERE oid = to_regclass($1::text)
"""


def migrations() -> tuple[str, ...]:
    """Return the migrations in order. The first one creates schema version 1 in an empty database."""
    return read_migrations("gatehouse.store.postgres")


async def schema_version(connection: Connection) -> int:
    """Return the schema version of the database; 0 for an empty one."""
    if not await connection.fetchval(_HAS_VERSION):
        return 0
    version: int = await connection.fetchval(_VERSION)
    return version


async def migrate(connection: Connection) -> None:
    """Apply the missing migrations, each in its own transaction together with the new version number.

    Several gateways may start at the same time: an advisory lock lets one of them migrate while the others
    wait.
    """
    known = migrations()
    if await schema_version(connection) == len(known):
        return
    await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    # The lock is held until the connection is closed.
    await connection.execute(f"SELECT pg_advisory_lock({_LOCK})", timeout=_TIMEOUT)
    version = await schema_version(connection)
    check_schema_version(version, len(known))
    for number in range(version + 1, len(known) + 1):
        await _apply(connection, number, known[number - 1])


async def _apply(connection: Connection, number: int, migration: str) -> None:
    async with connection.transaction():
        if number == 1:
            await connection.execute(_CREATE_VERSION, timeout=_TIMEOUT)
        await connection.execute(migration, timeout=_TIMEOUT)
        await connection.execute(f"UPDATE gatehouse_schema SET version = {number}")  # noqa: S608


async def migrate_database(settings: PostgresSettings) -> tuple[int, int]:
    """Migrate the database to the schema of this version. Returns the versions before and after."""
    try:
        connection = await Connector(settings).connect(SLOW)
        try:
            before = await schema_version(connection)
            await migrate(connection)
            return before, await schema_version(connection)
        finally:
            connection.terminate()
    except DRIVER_ERRORS as error:
        raise store_error(error) from error


async def describe(settings: PostgresSettings) -> StoreInfo:
    """Describe the database, whatever its schema version is."""
    try:
        connection = await Connector(settings).connect(SLOW)
        try:
            return await _describe(connection, settings.url)
        finally:
            connection.terminate()
    except DRIVER_ERRORS as error:
        raise store_error(error) from error


async def _describe(connection: Connection, url: str) -> StoreInfo:
    version = await schema_version(connection)
    rows = dict.fromkeys(TABLES, 0)
    estimated, size = False, 0
    counts: dict[str, Counts] = {}
    if version:
        # A database of an older version may not have all of them yet.
        for (table,) in await connection.fetch(_EXISTING_TABLES, TABLES):
            rows[table], is_estimate = await _count(connection, table)
            estimated = estimated or is_estimate
        counts = await purging.counts(connection)
        size = await purging.size(connection)
    deliveries, oldest = summarize(counts, rows["deliveries"])
    return StoreInfo(
        backend="postgresql",
        place=url,
        schema_version=version,
        newest_schema_version=len(migrations()),
        bytes=size,
        rows=rows,
        estimated=estimated,
        deliveries=deliveries,
        oldest_pending=oldest,
    )


async def _count(connection: Connection, table: str) -> tuple[int, bool]:
    """Return the number of rows, and whether it is an estimate. An older schema lacks some tables."""
    row = await connection.fetchrow(_TABLE_STATISTICS, table)
    if row is None:
        return 0, False
    pages, tuples = row
    if pages > _MAX_COUNTED_PAGES and tuples >= 0:
        return tuples, True
    number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - one of ours
    return number, False
