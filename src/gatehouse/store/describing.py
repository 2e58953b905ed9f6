"""What is in a store, for `gatehouse store info`: seen beside a running gateway, and nothing is changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gatehouse.errors import StoreError
from gatehouse.store.sqlite import leasing
from gatehouse.store.sqlite.connection import store_error
from gatehouse.store.sqlite.migrations import migrations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.base import Counts

#: How long to wait for a lock of the gateway's (seconds).
_BUSY_TIMEOUT: Final = 5.0
TABLES: Final = ("events", "deliveries", "dedupe_keys", "replies", "paused_destinations")
_TABLES_THERE: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A store at one moment; every number but those of deliveries that wait or are dead may be estimated."""

    backend: Literal["sqlite", "postgresql"]
    #: The file, or the URL.
    place: str
    #: 0: nothing has been made there yet.
    schema_version: int
    #: The one of this Gatehouse.
    newest_schema_version: int
    bytes: int
    #: Rows by table.
    rows: dict[str, int]
    #: Whether large tables were only estimated.
    estimated: bool
    #: Deliveries by status.
    deliveries: dict[str, int]
    #: When the event was received whose delivery has been waiting longest (unix seconds).
    oldest_pending: float | None


def summary(counts: Mapping[str, Counts], all_deliveries: int) -> tuple[dict[str, int], float | None]:
    """Return the deliveries by status, and the age of the oldest that is pending."""
    pending = sum(each.pending for each in counts.values())
    dead = sum(each.dead for each in counts.values())
    # Both were counted while a gateway may have gone on.
    delivered = max(0, all_deliveries - pending - dead)
    oldest = [each.oldest_pending for each in counts.values() if each.oldest_pending is not None]
    return {"pending": pending, "delivered": delivered, "dead": dead}, min(oldest, default=None)


def describe_sqlite(path: Path) -> StoreInfo:
    """Look at a SQLite store. Takes no lock of ours: each statement sees what is committed by then."""
    if not path.is_file():
        raise StoreError(f"{path} is no file", hint="gatehouse serve makes it, and gatehouse store migrate")
    try:
        # A connection that only reads never moves the log into the file, whatever it does at its end.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)) as connection:
            return _describe(connection, path)
    except sqlite3.Error as error:
        raise store_error(error) from error


def _describe(connection: sqlite3.Connection, path: Path) -> StoreInfo:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    there = {name for (name,) in connection.execute(_TABLES_THERE)}
    rows = {table: _count(connection, table) if table in there else 0 for table in TABLES}
    counts = leasing.counts(connection) if "deliveries" in there else {}
    deliveries, oldest = summary(counts, rows["deliveries"])
    return StoreInfo(
        backend="sqlite",
        place=str(path),
        schema_version=version,
        newest_schema_version=len(migrations()),
        # SQLite keeps its log beside the file itself, whatever links lead to it.
        bytes=sum(_size(Path(os.path.realpath(path) + end)) for end in ("", "-wal")),
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
