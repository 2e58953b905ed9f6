"""Which destinations are paused, in the SQLite file: a row for each that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

_PAUSE: Final = "INSERT OR IGNORE INTO paused_destinations (destination) VALUES (?)"
_RESUME: Final = "DELETE FROM paused_destinations WHERE destination = ?"
_PAUSED: Final = "SELECT destination FROM paused_destinations"


def pause(connection: sqlite3.Connection, destination: str, *, paused: bool) -> None:
    """Remember it, or that it is over; inside the caller's transaction."""
    connection.execute(_PAUSE if paused else _RESUME, (destination,))


def paused(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names."""
    return frozenset(name for (name,) in connection.execute(_PAUSED).fetchall())
