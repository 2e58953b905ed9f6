"""Chooses the backend that `store.url` names: to open the store, describe it, migrate it, or copy into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.errors import StoreError
from gatehouse.store.sqlite import SqliteStore, schema
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatehouse.config.model import StoreConfig
    from gatehouse.store.base import Store
    from gatehouse.store.copying.run import Copy, Report
    from gatehouse.store.postgres.connection import PostgresSettings
    from gatehouse.store.schema import StoreInfo

_SQLITE: Final = "sqlite:///"
#: What to do without the driver. It installs only the driver: on PyPI, `gatehouse` is another project.
INSTALL_DRIVER: Final = 'pip install "asyncpg>=0.32,<0.33", where Gatehouse is installed'


class OpenedStore(NamedTuple):
    """An open store, and where it is."""

    store: Store
    #: Its file or its URL, to show to people.
    place: str
    #: The directory whose disk the store fills; None when it is not on a disk of this machine.
    directory: Path | None
    #: Raises `StoreError` when the files are not where they were opened. Can be called from any thread.
    check_files: Callable[[], None] | None = None


def sqlite_path(url: str, directory: Path) -> Path | None:
    """Return the file that a URL names, relative to the config's directory; None for another backend."""
    return directory / url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else None


async def open_store(
    config: StoreConfig, directory: Path, password: str | None, clock: Callable[[], float]
) -> OpenedStore:
    """Open the store of a config. A relative path starts at `directory`. Raises `StoreError`."""
    path = sqlite_path(config.url, directory)
    if path is not None:
        return await _open_sqlite(path, clock)
    return await _open_postgres(config, password, clock)


async def _open_sqlite(file: Path, clock: Callable[[], float]) -> OpenedStore:
    store = await SqliteStore.open(file, clock=clock)
    get_logger().info("store.opened", sqlite=store.sqlite_version, wal_reset_bug=store.has_wal_reset_bug)
    return OpenedStore(store, str(file), store.directory, store.check_files)


async def _open_postgres(
    config: StoreConfig, password: str | None, clock: Callable[[], float]
) -> OpenedStore:
    settings = _postgres_settings(config, password)
    from gatehouse.store.postgres import PostgresStore  # noqa: PLC0415 - needs the driver

    store = await PostgresStore.open(settings, clock=clock)
    get_logger().info("store.opened", url=config.url, connections=config.connections)
    if config.allow_unsynced:
        get_logger().warning("store.unsynced", url=config.url)
    return OpenedStore(store, config.url, None)


async def describe_store(config: StoreConfig, directory: Path, password: str | None) -> StoreInfo:
    """Describe the store of a config. Raises `StoreError`."""
    path = sqlite_path(config.url, directory)
    if path is not None:
        return schema.describe(path)
    settings = _postgres_settings(config, password)
    from gatehouse.store.postgres.schema import describe  # noqa: PLC0415 - needs the driver

    return await describe(settings)


async def migrate_store(config: StoreConfig, directory: Path, password: str | None) -> tuple[str, int, int]:
    """Migrate the store of a config. Returns its place, and the schema versions before and after."""
    path = sqlite_path(config.url, directory)
    if path is not None:
        return str(path), *(await schema.migrate_file(path))
    settings = _postgres_settings(config, password)
    from gatehouse.store.postgres.schema import migrate_database  # noqa: PLC0415 - needs the driver

    return config.url, *(await migrate_database(settings))


async def copy_into_store(
    path: Path, config: StoreConfig, password: str | None, *, into_used_store: bool, report: Report
) -> Copy:
    """Copy a SQLite file into the store of a config, which must be a PostgreSQL. Raises `StoreError`."""
    if config.url.startswith(_SQLITE):
        raise StoreError(
            "the store of the config is a SQLite file, and a copy goes to PostgreSQL",
            hint="give store.url a postgresql:// URL first",
        )
    settings = _postgres_settings(config, password)
    from gatehouse.store.copying.run import copy_store  # noqa: PLC0415 - needs the driver

    return await copy_store(path, settings, into_used_store=into_used_store, report=report)


def _postgres_settings(config: StoreConfig, password: str | None) -> PostgresSettings:
    """Return the settings of a config. Raises `StoreError` when the driver is not installed."""
    try:
        from gatehouse.store.postgres import PostgresSettings  # noqa: PLC0415 - needs the driver
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreError(
            "store.url: PostgreSQL needs the driver asyncpg, which is not installed", hint=INSTALL_DRIVER
        ) from error
    return PostgresSettings(config.url, password, config.connections, config.allow_unsynced)
