"""Statements for many rows at once.

sqlite3 gives up the GIL at every step of a statement and has to win it back from a busy event loop, so what
counts is the number of steps, not of rows: one statement per table and batch, with its text (and so the
driver's prepared statement) cached by the number of rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from gatehouse.store.rows import Row, Value

#: More rows take several statements: keeps the prepared ones small and below SQLite's limit on parameters.
_MAX_ROWS: Final = 256
#: Bytes of long values in one statement. What was bound to it stays in memory for as long as the driver keeps
#: it prepared, and there is one for each number of rows: unbounded, 64 bodies of 1 MiB beside 63, 62, ...
_MAX_BYTES: Final = 64 * 1024
_LONG: Final = (str, bytes)


@lru_cache(maxsize=1024)
def _statement(template: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return template.replace("{rows}", ",".join([row] * rows))


def execute_rows(
    connection: sqlite3.Connection, template: str, rows: Sequence[Row], *extra: Value
) -> list[tuple[object, ...]]:
    """Run a statement with its `{rows}` replaced by all of these, and the other parameters behind them."""
    found: list[tuple[object, ...]] = []
    for start in range(0, len(rows), _MAX_ROWS):
        part = rows[start : start + _MAX_ROWS]
        values: list[Value] = []
        for row in part:
            values += row
        values += extra
        found += connection.execute(_statement(template, len(part[0]), len(part)), values)
    return found


def in_pieces(rows: Sequence[Row], *, long: int) -> Iterator[Sequence[Row]]:
    """Part rows, of which so many last columns are long, into as many as one statement should hold."""
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
