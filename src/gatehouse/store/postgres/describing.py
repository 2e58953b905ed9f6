"""What is in the database, for `gatehouse store info`: without counting through large tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.describing import TABLES, StoreInfo, summary
from gatehouse.store.postgres import purging
from gatehouse.store.postgres.connecting import SLOW, Connector
from gatehouse.store.postgres.errors import DRIVER_ERRORS, store_error
from gatehouse.store.postgres.migrations import migrate, migrations, schema_version

if TYPE_CHECKING:
    from gatehouse.store.base import Counts
    from gatehouse.store.postgres.connecting import Connection
    from gatehouse.store.postgres.settings import PostgresSettings

#: A table of more pages than that is estimated: counting it would read 80 MB.
_FEW_PAGES: Final = 10_000
#: Negative where nobody has looked yet.
_ABOUT: Final = """
SELECT pg_relation_size(oid) / current_setting('block_size')::bigint, reltuples::bigint
FROM pg_class WHERE oid = $1::text::regclass
"""


async def describe(settings: PostgresSettings) -> StoreInfo:
    """Look at the database, whatever its schema version is."""
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
        for table in TABLES:
            rows[table], is_estimate = await _count(connection, table)
            estimated = estimated or is_estimate
        counts = await purging.counts(connection)
        size = await purging.size(connection)
    deliveries, oldest = summary(counts, rows["deliveries"])
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
    """Return the number of rows, and whether it is an estimate."""
    row = await connection.fetchrow(_ABOUT, table)
    pages, tuples = row or (0, -1)
    if pages > _FEW_PAGES and tuples >= 0:
        return tuples, True
    number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - one of ours
    return number, False


async def migrate_database(settings: PostgresSettings) -> tuple[int, int]:
    """Bring the database to the schema of this version. Returns the versions before and after."""
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
