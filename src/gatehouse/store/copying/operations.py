"""Copies the replays and retries of many events, and checks that they have arrived.

They are copied after the events: a gateway that uses the database already would otherwise run an operation
before its events are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.operations import COLUMNS, from_row, to_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.store.operations import Operation
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection

_READ: Final = f"SELECT {COLUMNS} FROM operations ORDER BY id"  # noqa: S608 - of a constant
_ADD: Final = f"""
INSERT INTO operations ({COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - of a constant
_KNOWN: Final = "SELECT id FROM operations WHERE id = ANY ($1::text[])"


def read(connection: sqlite3.Connection) -> list[Operation]:
    """Return every operation of the source.

    The positions of a retry are numbers of the SQLite file. A retry starts at the beginning again, and finds
    only what is still dead.
    """
    rows = [list(row) for row in connection.execute(_READ)]
    for row in rows:
        if row[1] == "retry":
            row[-1] = ""
    return [from_row(row) for row in rows]


async def add(connection: Connection, operations: Sequence[Operation], clock: DatabaseClock) -> None:
    """Insert operations that do not exist yet."""
    await connection.executemany(_ADD, [to_row(each, clock.to_database) for each in operations])


async def find_missing(connection: Connection, operations: Sequence[Operation]) -> list[str]:
    """Return the ids of the operations that are not in the database."""
    ids = [each.id for each in operations]
    known = {operation_id for (operation_id,) in await connection.fetch(_KNOWN, ids)}
    return [operation_id for operation_id in ids if operation_id not in known]
