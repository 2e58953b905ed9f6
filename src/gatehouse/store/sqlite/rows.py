"""Writes many rows with one statement, and reads rows back that may be damaged.

sqlite3 releases the GIL at each step of a statement, and has to win it back from a busy event loop. So the
number of steps counts, not the number of rows: there is one statement per table and batch. Its text, and so
the driver's prepared statement, is cached by the number of rows.

What the disk returns is checked: a damaged event must never be taken for the event that was sent.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from gatehouse.store.rows import EVENT_COLUMNS, checksum, digest, event_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gatehouse.events.event import Event
    from gatehouse.store.rows import Row, Value

Parameters: TypeAlias = "Sequence[object] | Mapping[str, object]"

#: More rows take several statements. This keeps the prepared ones small, and below SQLite's limit on
#: parameters.
_MAX_ROWS: Final = 256
#: Bytes of long values in one statement. Values stay in memory for as long as the driver keeps the statement
#: prepared, and there is a statement for each number of rows. Without a limit, 64 bodies of 1 MiB would stay
#: beside 63, beside 62, and so on.
_MAX_BYTES: Final = 64 * 1024
_LONG: Final = (str, bytes)

#: The columns that `intact_event` needs.
CHECKED_COLUMNS: Final = f"digest, checksum, {EVENT_COLUMNS}"


@lru_cache(maxsize=1024)
def _statement(template: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return template.replace("{rows}", ",".join([row] * rows))


def execute_rows(
    connection: sqlite3.Connection, template: str, rows: Sequence[Row], *extra: Value
) -> list[tuple[Any, ...]]:
    """Run a statement with its `{rows}` replaced by these rows. The `extra` parameters follow the rows."""
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(rows), _MAX_ROWS):
        part = rows[start : start + _MAX_ROWS]
        values: list[Value] = []
        for row in part:
            values += row
        values += extra
        found += connection.execute(_statement(template, len(part[0]), len(part)), values)
    return found


def in_chunks(rows: Sequence[Row], *, long: int) -> Iterator[Sequence[Row]]:
    """Split rows, whose last `long` columns contain long values, into chunks for one statement each."""
    start = size = 0
    for number, row in enumerate(rows):
        more = 0
        for value in row[-long:]:
            if isinstance(value, _LONG):
                more += len(value)
        if size + more > _MAX_BYTES and number > start:
            yield rows[start:number]
            start, size = number, 0
        size += more
    yield rows[start:]


class CorruptDelivery(NamedTuple):
    """A delivery whose event is damaged on the disk."""

    #: The id that the file contains now; "" if it is not text.
    event_id: str
    destination: str


def text_or_bytes(raw: bytes) -> str | bytes:
    """Decode text. Return damaged text as bytes, so that the damage can be detected."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def text_with_marks(raw: bytes) -> str:
    """Decode text for people to read, with a replacement character for each damaged byte."""
    return raw.decode("utf-8", "replace")


def fetch(
    connection: sqlite3.Connection, sql: str, parameters: Parameters, damaged: Callable[[bytes], str | bytes]
) -> list[tuple[Any, ...]]:
    """Return all rows. If one contains text that is not UTF-8, decode all text with `damaged`.

    The driver itself would refuse all rows: one damaged row would hide the others.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        # The driver's own error about such text has no SQLite error code.
        if getattr(error, "sqlite_errorcode", None) is not None:
            raise
    connection.text_factory = damaged
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.text_factory = str


def intact_event(row: Sequence[Any]) -> Event | None:
    """Make an event of `CHECKED_COLUMNS`. Returns None if it is not the event that was stored."""
    body_digest, check, *columns = row
    # Old rows have no checksum: only damage to the body can be detected.
    if check is not None and check != checksum(columns):
        return None
    try:
        event = event_from(columns)
    except (msgspec.ValidationError, ValueError, TypeError):
        return None
    return event if digest(event.body) == body_digest else None
