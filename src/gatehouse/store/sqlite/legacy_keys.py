"""Keeps track, in the SQLite file, of the dedupe keys that version 0.1 stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.legacy_keys import IS_ANY_LEFT, LegacyKeys, missing_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gatehouse.store.base import Places
    from gatehouse.store.legacy_keys import PlaceRow

_ROWS: Final = "SELECT source, place, scope FROM dedupe_places"
_ADD: Final = "INSERT INTO dedupe_places (source, place, scope) VALUES (?, ?, ?)"
_CLEAR: Final = "DELETE FROM dedupe_places"


def may_exist(connection: sqlite3.Connection) -> bool:
    """Tell whether the file may contain legacy keys."""
    return bool(_rows(connection))


def add_places(connection: sqlite3.Connection, places: Callable[[], Places]) -> LegacyKeys:
    """Add the places of sources that have none yet, inside the caller's transaction."""
    existing = _rows(connection)
    if existing:
        connection.executemany(_ADD, missing_rows(places(), existing))
    return remaining(connection)


def remaining(connection: sqlite3.Connection) -> LegacyKeys:
    """Return the legacy keys that are left, and clear the places after the last one.

    It runs inside the caller's transaction.
    """
    (is_any_left,) = connection.execute(IS_ANY_LEFT).fetchone()
    if is_any_left:
        return LegacyKeys(_rows(connection))
    connection.execute(_CLEAR)
    return LegacyKeys()


def _rows(connection: sqlite3.Connection) -> list[PlaceRow]:
    return connection.execute(_ROWS).fetchall()
