"""The store that a config names, opened: which kind it is, is known here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatehouse.errors import StoreError
from gatehouse.store.sqlite import SqliteStore
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatehouse.config.model import StoreConfig
    from gatehouse.store.base import Store

_SQLITE = "sqlite:///"
#: What to try without the driver. It names the driver alone: on the index `gatehouse` is another project.
INSTALL_DRIVER = 'pip install "asyncpg>=0.32,<0.33", where Gatehouse is installed'


class OpenedStore(NamedTuple):
    """A store, and what the gateway has to know of where it is."""

    store: Store
    #: Its file, or its URL, for people.
    place: str
    #: The directory whose disk it fills; None when that is not a disk of this machine's.
    directory: Path | None
    #: Raises `StoreError` when the file is not where it was opened. Asked now and then, from any thread.
    look: Callable[[], None] | None = None


async def open_store(
    config: StoreConfig, directory: Path, password: str | None, clock: Callable[[], float]
) -> OpenedStore:
    """Open the store; the path of a file begins at `directory`. Raises `StoreError`."""
    if config.url.startswith(_SQLITE):
        return await _open_sqlite(directory / config.url.removeprefix(_SQLITE), clock)
    return await _open_postgres(config, password, clock)


async def _open_sqlite(file: Path, clock: Callable[[], float]) -> OpenedStore:
    store = await SqliteStore.open(file, clock=clock)
    get_logger().info("store.opened", sqlite=store.sqlite_version, wal_reset_bug=store.has_wal_reset_bug)
    return OpenedStore(store, str(file), store.directory, store.look_at_files)


async def _open_postgres(
    config: StoreConfig, password: str | None, clock: Callable[[], float]
) -> OpenedStore:
    try:
        # Its driver is not installed with every gateway.
        from gatehouse.store.postgres import PostgresStore  # noqa: PLC0415
        from gatehouse.store.postgres.settings import PostgresSettings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise driver_is_missing() from error
    settings = PostgresSettings(config.url, password, config.connections, config.allow_unsynced)
    store = await PostgresStore.open(settings, clock=clock)
    get_logger().info("store.opened", url=config.url, connections=config.connections)
    if config.allow_unsynced:
        get_logger().warning("store.unsynced", url=config.url)
    return OpenedStore(store, config.url, None)


def driver_is_missing() -> StoreError:
    """Return the error for a PostgreSQL URL where the driver is not installed."""
    return StoreError(
        "store.url: PostgreSQL needs the driver asyncpg, which is not installed", hint=INSTALL_DRIVER
    )
