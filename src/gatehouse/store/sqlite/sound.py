"""Events as the disk gives them back, checked: what was damaged there must not be taken for what was sent."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from gatehouse.store.rows import EVENT_COLUMNS, checksum, digest, event_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatehouse.events.event import Event

Parameters: TypeAlias = "Sequence[object] | Mapping[str, object]"

#: What `sound_event` needs of the table.
CHECKED_COLUMNS: Final = f"digest, checksum, {EVENT_COLUMNS}"


class Corrupt(NamedTuple):
    """A delivery whose event is damaged."""

    #: What the file says now; "" where that is no text.
    event_id: str
    destination: str


def text_or_bytes(raw: bytes) -> str | bytes:
    """Read text, but leave what is none, so that it can be told."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def text_to_look_at(raw: bytes) -> str:
    """Read text with marks in place of what is none."""
    return raw.decode("utf-8", "replace")


def fetch(
    connection: sqlite3.Connection, sql: str, parameters: Parameters, damaged: Callable[[bytes], str | bytes]
) -> list[tuple[Any, ...]]:
    """Return all rows. If any has text that is no UTF-8, it is read with `damaged`.

    The driver's own way is to refuse them all: one damaged row would hide the others.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        # The driver's own complaint about such text has no code of SQLite's.
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise
    connection.text_factory = damaged
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.text_factory = str


def sound_event(row: Sequence[Any]) -> Event | None:
    """Make an event of `CHECKED_COLUMNS`; None when it is not the one that was stored."""
    body_digest, check, *columns = row
    # Of the time before there were checksums, only the body can be told.
    if check is not None and check != checksum(columns):
        return None
    try:
        event = event_from(columns)
    except (msgspec.ValidationError, ValueError, TypeError):
        return None
    return event if digest(event.body) == body_digest else None
