"""Keeps track, in the database, of the dedupe keys that version 0.1 stored.

During a rolling upgrade, gateways of version 0.1 may still use the database. They look for keys by place, so
gateways of this version also store legacy keys for that time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.legacy_keys import ALL_SOURCES, IS_ANY_LEFT, LegacyKeys, missing_rows
from gatehouse.store.postgres.rows import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.base import Places
    from gatehouse.store.legacy_keys import PlaceRow
    from gatehouse.store.postgres.connection import Connection

_ROWS: Final = "SELECT source, place, scope FROM dedupe_places"
_ADD: Final = """
INSERT INTO dedupe_places (source, place, scope) SELECT * FROM unnest($1::text[], $2::smallint[], $3::bytea[])
ON CONFLICT DO NOTHING
"""
_TYPES: Final = ("text", "smallint", "bytea")
_CLEAR: Final = "DELETE FROM dedupe_places"
#: Whether the schema was migrated so recently that gateways of version 0.1 may still run.
_IS_RECENT: Final = (
    "SELECT EXISTS (SELECT 1 FROM dedupe_places WHERE source = $1 AND added > now() - interval '1 h')"
)


class PostgresLegacyKeys(LegacyKeys):
    """The legacy keys, and whether new keys must be stored as legacy keys too."""

    must_be_stored = False


async def add_places(connection: Connection, places: Callable[[], Places]) -> PostgresLegacyKeys:
    """Add the places of sources that have none yet. Most databases have no legacy keys."""
    existing = await _rows(connection)
    if not existing:
        return PostgresLegacyKeys()
    await write_places(connection, missing_rows(places(), existing))
    return await remaining(connection)


async def write_places(connection: Connection, rows: Sequence[PlaceRow]) -> None:
    """Insert the rows that do not exist yet."""
    await connection.execute(_ADD, *columns(rows, _TYPES))


async def remaining(connection: Connection) -> PostgresLegacyKeys:
    """Return the legacy keys that are left, and clear the places after the last one."""
    is_recent = await connection.fetchval(_IS_RECENT, ALL_SOURCES)
    if not is_recent and not await connection.fetchval(IS_ANY_LEFT):
        await connection.execute(_CLEAR)
        return PostgresLegacyKeys()
    found = PostgresLegacyKeys(await _rows(connection))
    found.must_be_stored = is_recent
    return found


async def _rows(connection: Connection) -> list[PlaceRow]:
    return [(source, place, scope) for source, place, scope in await connection.fetch(_ROWS)]
