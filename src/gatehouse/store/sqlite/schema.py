"""The schema of a SQLite file: migrates it, and describes what the file contains."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from gatehouse.errors import StoreError
from gatehouse.store.schema import TABLES, StoreInfo, check_schema_version, read_migrations, summarize
from gatehouse.store.sqlite import leasing
from gatehouse.store.sqlite.connection import check_version, store_error
from gatehouse.store.sqlite.database import SqliteDatabase

#: How long `describe` waits for a lock of a running gateway (seconds).
_BUSY_TIMEOUT: Final = 5.0
_EXISTING_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"


def migrations() -> tuple[str, ...]:
    """Return the migrations in order. The first one creates schema version 1 in an empty file."""
    return read_migrations("gatehouse.store.sqlite")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of the file; 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing migrations, each in its own transaction together with the new version number."""
    known = migrations()
    version = schema_version(connection)
    check_schema_version(version, len(known))
    for number in range(version + 1, len(known) + 1):
        _apply(connection, number, known[number - 1])


def _apply(connection: sqlite3.Connection, number: int, migration: str) -> None:
    script = f"BEGIN IMMEDIATE;\n{migration}\nPRAGMA user_version = {number};\nCOMMIT;"
    try:
        connection.executescript(script)
    except sqlite3.Error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


async def migrate_file(path: Path) -> tuple[int, int]:
    """Migrate a file to the schema of this version. Returns the versions before and after."""
    check_version(sqlite3.sqlite_version_info)
    versions: list[int] = []

    def migrate_and_note_versions(connection: sqlite3.Connection) -> None:
        versions.append(schema_version(connection))
        migrate(connection)
        versions.append(schema_version(connection))

    file = SqliteDatabase(path, migrate_and_note_versions)
    try:
        await file.writer()
    finally:
        await file.close()
    before, after = versions
    return before, after


def describe(path: Path) -> StoreInfo:
    """Describe a file without taking the gateway's lock. Each statement sees what was committed before it."""
    if not path.is_file():
        raise StoreError(
            f"{path} is not a file", hint="gatehouse serve or gatehouse store migrate creates it"
        )
    try:
        # A read-only connection never writes the log back into the file, not even when it closes.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)) as connection:
            return _describe(connection, path)
    except sqlite3.Error as error:
        raise store_error(error) from error


def _describe(connection: sqlite3.Connection, path: Path) -> StoreInfo:
    version = schema_version(connection)
    existing = {name for (name,) in connection.execute(_EXISTING_TABLES)}
    rows = {table: _count(connection, table) if table in existing else 0 for table in TABLES}
    counts = leasing.counts(connection) if "deliveries" in existing else {}
    deliveries, oldest = summarize(counts, rows["deliveries"])
    return StoreInfo(
        backend="sqlite",
        place=str(path),
        schema_version=version,
        newest_schema_version=len(migrations()),
        # SQLite keeps the log beside the real file, not beside a symbolic link to it.
        bytes=sum(_size(Path(os.path.realpath(path) + ending)) for ending in ("", "-wal")),
        rows=rows,
        estimated=False,
        deliveries=deliveries,
        oldest_pending=oldest,
    )


def _count(connection: sqlite3.Connection, table: str) -> int:
    (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - one of ours
    return int(number)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
