"""Keys that version 0.1 recorded, in PostgreSQL: which there may be, and when the last one has gone.

Gateways of that version may run on the database still, while they are replaced one after the other. They look
for keys by place, so for that time the gateways of this version record those as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.earlier import ALL, IS_ANY_LEFT, EarlierKeys, missing
from gatehouse.store.postgres.statements import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatehouse.store.base import Places
    from gatehouse.store.earlier import PlaceRow
    from gatehouse.store.postgres.connecting import Connection

_ROWS: Final = "SELECT source, place, scope FROM dedupe_places"
_ADD: Final = """
INSERT INTO dedupe_places (source, place, scope) SELECT * FROM unnest($1::text[], $2::smallint[], $3::bytea[])
ON CONFLICT DO NOTHING
"""
_TYPES: Final = ("text", "smallint", "bytea")
_END: Final = "DELETE FROM dedupe_places"
#: Whether the schema was changed so little time ago that the version before may run still.
_IS_FRESH: Final = (
    "SELECT EXISTS (SELECT 1 FROM dedupe_places WHERE source = $1 AND added > now() - interval '1 h')"
)


class EarlierKeysHere(EarlierKeys):
    """And whether they are to be recorded still."""

    is_recorded = False


async def add(connection: Connection, places: Callable[[], Places]) -> EarlierKeysHere:
    """Write what is not known yet. Most databases have nothing of the kind."""
    there = await _rows(connection)
    if not there:
        return EarlierKeysHere()
    await write(connection, missing(places(), there))
    return await left(connection)


async def write(connection: Connection, rows: Sequence[PlaceRow]) -> None:
    """Write what is not there yet."""
    await connection.execute(_ADD, *columns(rows, _TYPES))


async def left(connection: Connection) -> EarlierKeysHere:
    """Return which keys there may be; none for good after the last one."""
    is_fresh = await connection.fetchval(_IS_FRESH, ALL)
    if not is_fresh and not await connection.fetchval(IS_ANY_LEFT):
        await connection.execute(_END)
        return EarlierKeysHere()
    found = EarlierKeysHere(await _rows(connection))
    found.is_recorded = is_fresh
    return found


async def _rows(connection: Connection) -> list[PlaceRow]:
    return [(source, place, scope) for source, place, scope in await connection.fetch(_ROWS)]
