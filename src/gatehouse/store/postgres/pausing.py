"""Which destinations are paused: a row for each that is, and a hint to the other gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.postgres.hints import NOTIFY

if TYPE_CHECKING:
    from gatehouse.store.postgres.connecting import Connection

_PAUSE: Final = f"""
WITH changed AS (INSERT INTO paused_destinations SELECT unnest($1::text[]) ON CONFLICT DO NOTHING)
{NOTIFY}
"""
_RESUME: Final = f"""
WITH changed AS (DELETE FROM paused_destinations WHERE destination = ANY ($1::text[]))
{NOTIFY}
"""  # noqa: S608 - of a constant
_PAUSED: Final = "SELECT destination FROM paused_destinations"


async def pause(connection: Connection, destination: str, *, paused: bool) -> None:
    """Remember it, or that it is over."""
    await connection.execute(_PAUSE if paused else _RESUME, [destination])


async def paused(connection: Connection) -> frozenset[str]:
    """Return the names."""
    return frozenset(name for (name,) in await connection.fetch(_PAUSED))
