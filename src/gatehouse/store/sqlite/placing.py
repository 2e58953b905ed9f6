"""Keys that version 0.1 recorded, in SQLite: which there may be, and when the last one has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatehouse.store.earlier import IS_ANY_LEFT, EarlierKeys, missing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gatehouse.store.base import Places
    from gatehouse.store.earlier import PlaceRow

_ROWS: Final = "SELECT source, place, scope FROM dedupe_places"
_ADD: Final = "INSERT INTO dedupe_places (source, place, scope) VALUES (?, ?, ?)"
_END: Final = "DELETE FROM dedupe_places"


def may_be_any(connection: sqlite3.Connection) -> bool:
    """Tell whether such keys may be left."""
    return bool(rows(connection))


def rows(connection: sqlite3.Connection) -> list[PlaceRow]:
    """Return what is known of them."""
    return connection.execute(_ROWS).fetchall()


def add(connection: sqlite3.Connection, places: Callable[[], Places]) -> EarlierKeys:
    """Write what is not known yet, inside the caller's transaction."""
    there = rows(connection)
    if there:
        connection.executemany(_ADD, missing(places(), there))
    return left(connection)


def left(connection: sqlite3.Connection) -> EarlierKeys:
    """Return which keys there may be, inside the caller's transaction; none for good after the last one."""
    (is_any_left,) = connection.execute(IS_ANY_LEFT).fetchone()
    if is_any_left:
        return EarlierKeys(rows(connection))
    connection.execute(_END)
    return EarlierKeys()
