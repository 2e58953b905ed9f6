"""Connects to the database, checks each connection before use, and converts the driver's errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from gatehouse.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

#: How long a host may take to accept a connection (seconds).
CONNECT_TIMEOUT: Final = 2.0
#: The oldest version with everything that the statements need. The tests run on a newer one.
_OLDEST: Final = 130000

#: For calls that must be fast: a statement has to end before the commit deadline (800 ms). PostgreSQL keeps a
#: plan for the tables as they were when the process started, when they are often empty. So no plan may
#: contain a join that reads a whole table.
HOT: Final[Mapping[str, str]] = {
    "statement_timeout": "700ms",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "5s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
#: For calls that may take longer, and for batches of unusual size.
SLOW: Final[Mapping[str, str]] = {**HOT, "statement_timeout": "15s"}

_SERVER_SETTINGS: Final = """
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('fsync') AS fsync,
  current_setting('server_encoding') AS encoding,
  current_setting('server_version_num')::integer AS version
"""
#: Writes only to the write-ahead log, and does nothing where no commit waits for a standby.
_CONFIRM: Final = """
SELECT CASE WHEN current_setting('synchronous_standby_names') <> ''
  THEN pg_logical_emit_message(true, 'gatehouse', ''::text) END
"""

#: Everything that a call of the driver can raise without a bug in Gatehouse.
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
#: Collisions with other transactions. It is worth trying again at once, because the other transactions are
#: done.
COLLISIONS: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

READ_ONLY: Final = "25006"
#: Classes of SQLSTATE for faults that pass, or that an operator can fix without a restart.
_TRANSIENT: Final = {"08", "40", "53", "57", "58", "55", "3D", "28", "XX"}
_TRANSIENT_CODES: Final = {READ_ONLY, "25P03", "42501"}
#: Classes of SQLSTATE whose text is about the server, and contains nothing that was sent.
_SAFE_TEXT: Final = {"08", "28", "3D", "53", "57", "58"}


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What the config says about the database."""

    #: In the format of libpq, with any number of hosts: `postgresql://user@host:5432,host2/name?sslmode=...`.
    url: str
    #: Never part of the URL, which is logged.
    password: str | None = field(default=None, repr=False)
    #: The maximum of connections for calls that must be fast. A few more are for lists, purges and
    #: notifications.
    connections: int = 10
    #: Whether to start although the server confirms commits before they are on its disk.
    allow_unsynced: bool = False


class Connector:
    """Connects to the host that accepts writes. It tries the host that did so last time first."""

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
    """Return one URL per host, because in a URL of several hosts one that is down uses up the time of all."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


async def _connect(url: str, settings: PostgresSettings, options: Mapping[str, str]) -> Connection:
    connection: Connection = await asyncpg.connect(
        url,
        password=settings.password,
        timeout=CONNECT_TIMEOUT,
        server_settings={"application_name": "gatehouse", **options},
        # The store has few statements, and those of lists are made of few parts.
        statement_cache_size=256,
        max_cached_statement_lifetime=0,
    )
    try:
        _check(await connection.fetchrow(_SERVER_SETTINGS, timeout=CONNECT_TIMEOUT), settings)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _check(server: asyncpg.Record | None, settings: PostgresSettings) -> None:
    if server is None or server["read_only"]:
        raise read_only()
    if server["version"] < _OLDEST:
        raise StoreError(f"PostgreSQL {server['version'] // 10000} is too old", hint="use 13 or newer")
    if server["encoding"] != "UTF8":
        raise StoreError(f"the database is in {server['encoding']}", hint="create it with ENCODING 'UTF8'")
    if not settings.allow_unsynced:
        _check_durability(server)


def _check_durability(server: asyncpg.Record) -> None:
    for name in ("fsync", "synchronous_commit"):
        if server[name] == "off":
            raise StoreError(
                f"the database has {name}=off: it may lose commits when it crashes",
                hint=f"set {name}=on for this database or role, or store.allow_unsynced: true",
            )


async def confirm(connection: Connection) -> None:
    """Return once everything that this connection has seen is as durable as a commit.

    A commit that waits for a standby has already happened on the primary. If its wait ends for another
    reason, a deadline or a restart, every connection sees the commit, and a failover would lose it. So before
    a gateway reports an event that is already there, it makes a commit of its own: this one waits as any
    commit does, and comes after everything that was seen. Inside a transaction, the transaction's commit
    waits.
    """
    await connection.execute(_CONFIRM)


def store_error(error: BaseException) -> StoreError:  # noqa: PLR0911 - one for each kind
    """Return the error to raise instead of a driver's error.

    It includes what the server says about its own state. It includes neither what the server says about a
    statement nor what the driver says about an argument or an address, because those may contain request data
    or a password.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, TimeoutError):
        return StoreUnavailableError("the database does not answer in time")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return read_only()
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error)
    if isinstance(error, OSError):
        return StoreUnavailableError(
            f"the database can't be reached ({error.strerror or type(error).__name__})"
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StoreError("the store's url can't be used", hint="use the format of libpq")
    return StoreUnavailableError(f"the connection to the database failed ({type(error).__name__})")


def read_only() -> StoreUnavailableError:
    """Return the error for a server that accepts no writes: a standby before it is promoted."""
    return StoreUnavailableError(
        "the database is read-only",
        hint="a standby takes over when it is promoted; list all hosts in the url",
    )


def _of_server(error: asyncpg.PostgresError) -> StoreError:
    code = error.sqlstate or ""
    if code == READ_ONLY:
        return read_only()
    said = f": {error.args[0]}" if code[:2] in _SAFE_TEXT and error.args else ""
    text = f"the database refused ({code}){said}"
    if code[:2] in _TRANSIENT or code in _TRANSIENT_CODES:
        return StoreUnavailableError(text)
    return StoreError(text)


def is_statement_timeout(error: StoreError) -> bool:
    """Tell whether a statement was ended because it took too long, and not by a fault of the server."""
    return isinstance(error.__cause__, TimeoutError | asyncpg.QueryCanceledError)


def breaks_connection(error: BaseException) -> bool:
    """Tell whether a connection must not be used again after this error."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in {"08", "57", "58"} and error.sqlstate != "57014"
    if isinstance(error, TimeoutError):
        return False
    return isinstance(error, OSError | asyncpg.InternalClientError)
