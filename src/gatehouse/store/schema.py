"""What both stores share about their schema: migrations, the version check, and `StoreInfo`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gatehouse.errors import SchemaVersionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.store.base import Counts

#: The tables that `gatehouse store info` counts.
TABLES: Final = (
    *("events", "deliveries", "dedupe_keys", "attempts", "replies", "paused_destinations", "audit"),
    "operations",
)


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A store at one moment. All numbers except those of pending and dead deliveries may be estimates."""

    backend: Literal["sqlite", "postgresql"]
    #: The file, or the URL.
    place: str
    #: 0: the store is empty and has no schema yet.
    schema_version: int
    #: The newest version that this Gatehouse knows.
    newest_schema_version: int
    bytes: int
    #: Rows by table.
    rows: dict[str, int]
    #: Whether the rows of large tables are estimates.
    estimated: bool
    #: Deliveries by status.
    deliveries: dict[str, int]
    #: When the event of the oldest pending delivery was received (unix seconds).
    oldest_pending: float | None


def summarize(counts: Mapping[str, Counts], all_deliveries: int) -> tuple[dict[str, int], float | None]:
    """Return the deliveries by status, and when the event of the oldest pending delivery was received."""
    pending = sum(each.pending for each in counts.values())
    dead = sum(each.dead for each in counts.values())
    # A running gateway may have changed the store between the two counts.
    delivered = max(0, all_deliveries - pending - dead)
    oldest = [each.oldest_pending for each in counts.values() if each.oldest_pending is not None]
    return {"pending": pending, "delivered": delivered, "dead": dead}, min(oldest, default=None)


@cache
def read_migrations(package: str) -> tuple[str, ...]:
    """Return the SQL files of a store's package in order. The first one creates schema version 1."""
    folder = resources.files(package) / "sql"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return tuple(file.read_text(encoding="utf-8") for file in files)


def check_schema_version(version: int, known: int) -> None:
    """Raise `SchemaVersionError` if a newer Gatehouse has migrated the store."""
    if version > known:
        raise SchemaVersionError(
            f"the store has schema version {version}; this gatehouse knows versions up to {known}",
            hint="run the newer gatehouse that wrote it, or restore a backup from before the upgrade",
        )
