"""What the command line does with a store while no gateway is needed: look, bring up to date, copy."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from gatehouse.errors import StoreError
from gatehouse.store.describing import StoreInfo, describe_sqlite
from gatehouse.store.opening import driver_is_missing
from gatehouse.store.sqlite.connection import check_version
from gatehouse.store.sqlite.file import SqliteFile
from gatehouse.store.sqlite.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.config.model import StoreConfig
    from gatehouse.store.postgres.copying import Copy, Report
    from gatehouse.store.postgres.settings import PostgresSettings

_SQLITE = "sqlite:///"


def sqlite_path(url: str, directory: Path) -> Path | None:
    """Return the file that a URL names, from the directory of the config; None for another kind of store."""
    return directory / url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else None


async def info(config: StoreConfig, directory: Path, password: str | None) -> StoreInfo:
    """Look at the store of a config. Raises `StoreError`."""
    path = sqlite_path(config.url, directory)
    if path is not None:
        return describe_sqlite(path)
    settings = _postgres(config, password)
    from gatehouse.store.postgres.describing import describe  # noqa: PLC0415 - needs the driver

    return await describe(settings)


async def bring_up_to_date(
    config: StoreConfig, directory: Path, password: str | None
) -> tuple[str, int, int]:
    """Migrate the store of a config. Returns where it is, and the versions before and after."""
    path = sqlite_path(config.url, directory)
    if path is not None:
        return str(path), *(await _migrate_sqlite(path))
    settings = _postgres(config, password)
    from gatehouse.store.postgres.describing import migrate_database  # noqa: PLC0415 - needs the driver

    return config.url, *(await migrate_database(settings))


async def copy_from(
    path: Path, config: StoreConfig, password: str | None, *, into_used_store: bool, report: Report
) -> Copy:
    """Copy a SQLite store into the one of a config. Raises `StoreError`."""
    if config.url.startswith(_SQLITE):
        raise StoreError(
            "the store of the config is a SQLite file, and a copy goes to PostgreSQL",
            hint="give store.url a postgresql:// URL first",
        )
    settings = _postgres(config, password)
    from gatehouse.store.postgres.copying import copy_store  # noqa: PLC0415 - needs the driver

    return await copy_store(path, settings, into_used_store=into_used_store, report=report)


def _postgres(config: StoreConfig, password: str | None) -> PostgresSettings:
    try:
        from gatehouse.store.postgres.settings import PostgresSettings  # noqa: PLC0415 - needs the driver
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise driver_is_missing() from error
    return PostgresSettings(config.url, password, config.connections, config.allow_unsynced)


async def _migrate_sqlite(path: Path) -> tuple[int, int]:
    check_version(sqlite3.sqlite_version_info)
    versions: list[int] = []

    def bring(connection: sqlite3.Connection) -> None:
        versions.append(_version(connection))
        migrate(connection)
        versions.append(_version(connection))

    file = SqliteFile(path, bring)
    try:
        await file.writer()
    finally:
        await file.close()
    before, after = versions
    return before, after


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
