"""Stores the attempts of deliveries in SQLite, and lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gatehouse.store.attempts import (
    KEEP_FIRST,
    attempts_of,
    duration_from,
    duration_ms,
    last_to_remove,
    listed_attempts,
)
from gatehouse.store.records import Attempt
from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite.rows import execute_rows, fetch, in_chunks, text_with_marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gatehouse.store.base import Result
    from gatehouse.store.records import DeliveryRow
    from gatehouse.store.rows import Row

#: The condition separates the join from ON CONFLICT for the parser.
_INSERT: Final = """
INSERT INTO attempts (event_seq, destination, number, at_ms, reason, http_status, duration_ms, error, reply)
SELECT events.seq, new.column2, new.column3, new.column4, new.column5, new.column6, new.column7,
  new.column8, new.column9
FROM (VALUES {rows}) AS new JOIN events ON events.id = new.column1
WHERE true ON CONFLICT DO NOTHING
"""
_REMOVE: Final = f"""
DELETE FROM attempts WHERE (event_seq, destination, number) IN (
  SELECT old.event_seq, old.destination, old.number
  FROM (VALUES {{rows}}) AS wanted CROSS JOIN events ON events.id = wanted.column1
  CROSS JOIN attempts AS old ON old.event_seq = events.seq AND old.destination = wanted.column2
    AND old.number > {KEEP_FIRST} AND old.number <= wanted.column3
)
"""  # noqa: S608 - of a constant
#: Before a replay changes the row that tells about the last attempt.
_KEEP_LAST: Final = """
INSERT INTO attempts (event_seq, destination, number, at_ms, reason, http_status, duration_ms)
SELECT event_seq, destination, attempts, updated_ms, last_reason, last_http_status, last_duration_ms
FROM deliveries
WHERE event_seq = ?1 AND destination = ?2 AND status = 'delivered' AND last_reason IS NOT NULL
ON CONFLICT DO NOTHING
"""
_OF_EVENT: Final = """
SELECT destination, number, at_ms, reason, http_status, duration_ms, error, reply
FROM attempts WHERE event_seq = (SELECT seq FROM events WHERE id = ?) ORDER BY destination, number
"""


def store_attempts(connection: sqlite3.Connection, results: Sequence[tuple[int, Result]]) -> None:
    """Store the attempts of results that were recorded, inside the caller's transaction."""
    rows = [row for _, result in results for row in _rows(result)]
    for some in in_chunks(rows, long=2):
        execute_rows(connection, _INSERT, some)
    removed: list[Row] = [
        (result.delivery.event.id, result.delivery.destination, last)
        for _, result in results
        if (last := last_to_remove(result))
    ]
    execute_rows(connection, _REMOVE, removed)


def _rows(result: Result) -> list[Row]:
    event_id, destination = result.delivery.event.id, result.delivery.destination
    return [
        (
            *(event_id, destination, each.number, milliseconds(each.at), each.reason, each.http_status),
            *(duration_ms(each.duration), each.error, each.reply),
        )
        for each in attempts_of(result)
    ]


def keep_last_attempt(connection: sqlite3.Connection, seq: int, destination: str) -> None:
    """Store the attempt that a delivered delivery tells about, inside the caller's transaction."""
    connection.execute(_KEEP_LAST, (seq, destination))


def attempts_by_destination(
    connection: sqlite3.Connection, event_id: str, rows: Sequence[DeliveryRow]
) -> dict[str, tuple[Attempt, ...]]:
    """Return the attempts of an event's deliveries, by destination."""
    stored: dict[str, list[Attempt]] = {}
    for destination, *columns in fetch(connection, _OF_EVENT, (event_id,), text_with_marks):
        stored.setdefault(destination, []).append(_attempt(columns))
    return {row.destination: listed_attempts(row, stored.get(row.destination, ())) for row in rows}


def _attempt(columns: Sequence[Any]) -> Attempt:
    number, at_ms, reason, http_status, took_ms, error, reply = columns
    return Attempt(
        number=number,
        at=at_ms / 1000,
        reason=reason,
        http_status=http_status,
        duration=duration_from(took_ms),
        error=error,
        reply=reply,
    )
