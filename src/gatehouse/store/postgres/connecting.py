"""One connection to the database, made as the store wants it and looked at before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from gatehouse.errors import StoreError
from gatehouse.store.postgres.errors import DRIVER_ERRORS, read_only

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from gatehouse.store.postgres.settings import PostgresSettings

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

#: How long a host may take to make a connection (seconds).
CONNECT_TIMEOUT: Final = 2.0
#: What the tests run on is newer; this one has all that the statements need.
_OLDEST: Final = 130000

#: For what may not wait: the end of a statement is to come before that of the commit deadline (800 ms). Plans
#: are made for the tables as they are when a process starts, which is often empty, and are kept: a join that
#: reads a whole table must not be among them.
HOT: Final[Mapping[str, str]] = {
    "statement_timeout": "700ms",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "5s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
#: For what may take its time, and batches of unusual size.
SLOW: Final[Mapping[str, str]] = {**HOT, "statement_timeout": "15s"}

_ABOUT: Final = """
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('fsync') AS fsync,
  current_setting('server_encoding') AS encoding,
  current_setting('server_version_num')::integer AS version
"""


class Connector:
    """Makes connections to whichever of the hosts takes writes, the last one that did first."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._urls = urls_by_host(settings.url)

    async def connect(self, options: Mapping[str, str]) -> Connection:
        """Return a connection that can write. Raises the driver's errors, and `StoreError`."""
        for url in tuple(self._urls):
            try:
                connection = await _connect(url, self._settings, options)
            except (*DRIVER_ERRORS, StoreError) as error:
                fault: Exception = error
            else:
                self._urls.sort(key=url.__ne__)
                return connection
        raise fault


def urls_by_host(url: str) -> list[str]:
    """Return a url for each host: for the driver, one that does not answer uses up the time of all."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


async def _connect(url: str, settings: PostgresSettings, options: Mapping[str, str]) -> Connection:
    connection: Connection = await asyncpg.connect(
        url,
        password=settings.password,
        timeout=CONNECT_TIMEOUT,
        server_settings={"application_name": "gatehouse", **options},
        # The statements of the store are few, and those of lists are made of few parts.
        statement_cache_size=256,
        max_cached_statement_lifetime=0,
    )
    try:
        _check(await connection.fetchrow(_ABOUT, timeout=CONNECT_TIMEOUT), settings)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _check(about: asyncpg.Record | None, settings: PostgresSettings) -> None:
    if about is None or about["read_only"]:
        raise read_only()
    if about["version"] < _OLDEST:
        raise StoreError(
            f"PostgreSQL {about['version'] // 10000} is too old", hint="13 is the oldest that will do"
        )
    if about["encoding"] != "UTF8":
        raise StoreError(f"the database is in {about['encoding']}", hint="make it with ENCODING 'UTF8'")
    if not settings.allow_unsynced:
        _check_durability(about)


def _check_durability(about: asyncpg.Record) -> None:
    for name in ("fsync", "synchronous_commit"):
        if about[name] == "off":
            raise StoreError(
                f"the database has {name}=off: what it has committed may be lost when it crashes",
                hint=f"set {name}=on for this database or role, or store.allow_unsynced: true",
            )
