"""Brings a database to the schema that this version knows; any number of gateways may start at once."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from gatehouse.errors import SchemaVersionError

if TYPE_CHECKING:
    from gatehouse.store.postgres.connecting import Connection

#: Any number will do that no other program on the database takes.
_LOCK: Final = 0x6761_7465_686F_7573
#: Others wait while one migrates, and a large table takes its time.
_TIMEOUT: Final = 600.0

_HAS_VERSION: Final = "SELECT to_regclass('gatehouse_schema') IS NOT NULL"
_MAKE: Final = (
    "CREATE TABLE gatehouse_schema (version integer NOT NULL); INSERT INTO gatehouse_schema VALUES (0)"
)
_VERSION: Final = "SELECT version FROM gatehouse_schema"


@cache
def migrations() -> tuple[str, ...]:
    """Return the migrations in order: the first brings an empty database to schema version 1."""
    folder = resources.files("gatehouse.store.postgres") / "sql"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return tuple(file.read_text(encoding="utf-8") for file in files)


async def schema_version(connection: Connection) -> int:
    """Return the version that the database has; 0 for an empty one."""
    if not await connection.fetchval(_HAS_VERSION):
        return 0
    version: int = await connection.fetchval(_VERSION)
    return version


async def migrate(connection: Connection) -> None:
    """Apply what is missing, each migration in a transaction of its own that also moves the version."""
    known = migrations()
    if await schema_version(connection) == len(known):
        return
    await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    # It lasts as long as the connection.
    await connection.execute(f"SELECT pg_advisory_lock({_LOCK})", timeout=_TIMEOUT)
    version = await schema_version(connection)
    if version > len(known):
        raise SchemaVersionError(
            f"the store has schema version {version}; this gatehouse knows versions up to {len(known)}",
            hint="run the newer gatehouse that wrote it, or restore a backup from before the upgrade",
        )
    for number in range(version + 1, len(known) + 1):
        await _apply(connection, number, known[number - 1])


async def _apply(connection: Connection, number: int, migration: str) -> None:
    async with connection.transaction():
        if number == 1:
            await connection.execute(_MAKE, timeout=_TIMEOUT)
        await connection.execute(migration, timeout=_TIMEOUT)
        await connection.execute(f"UPDATE gatehouse_schema SET version = {number}")  # noqa: S608
