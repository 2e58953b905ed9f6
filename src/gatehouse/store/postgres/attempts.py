"""Stores the attempts of deliveries in PostgreSQL, and lists them."""

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
from gatehouse.store.postgres.rows import arrays, columns, first_behind
from gatehouse.store.records import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatehouse.store.base import Result
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import DeliveryRow

_TYPES: Final = (
    *("integer", "text", "text", "integer", "bigint"),
    *("text", "integer", "integer", "text", "bytea"),
)
_REMOVED_TYPES: Final = ("integer", "text", "text", "integer")
#: Runs `{record}`, adds the attempts of the results that it recorded, and returns what it returns. `IS TRUE`
#: makes PostgreSQL look up the results in a hash table: as a join, it would compare each with each.
_RECORD: Final = """
WITH recorded AS ({record}), added AS (
  INSERT INTO attempts (event_id, destination, number, at_ms, reason, http_status, duration_ms, error, reply)
  SELECT new.event_id, new.destination, new.number, new.at_ms, new.reason, new.http_status, new.duration_ms,
    new.error, new.reply
  FROM unnest({attempts}) AS new
    (result, event_id, destination, number, at_ms, reason, http_status, duration_ms, error, reply)
  WHERE (new.result IN (SELECT number FROM recorded)) IS TRUE
  ON CONFLICT (event_id, destination, number) DO NOTHING
), removed AS (
  DELETE FROM attempts
  USING unnest({removed}) AS old (result, event_id, destination, last)
  WHERE attempts.event_id = ANY ({ids}::text[])
    AND attempts.event_id = old.event_id AND attempts.destination = old.destination
    AND attempts.number > {first} AND attempts.number <= old.last
    AND (old.result IN (SELECT number FROM recorded)) IS TRUE
)
SELECT number, order_key FROM recorded
"""
#: Before a replay changes the rows that tell about the last attempts.
KEEP_LAST: Final = """
INSERT INTO attempts (event_id, destination, number, at_ms, reason, http_status, duration_ms)
SELECT event_id, destination, attempts, updated_ms, last_reason, last_http_status, last_duration_ms
FROM deliveries
WHERE event_id = $1 AND destination = ANY ($2::text[]) AND status = 'delivered' AND last_reason IS NOT NULL
ON CONFLICT (event_id, destination, number) DO NOTHING
"""
_OF_EVENT: Final = """
SELECT destination, number, at_ms, reason, http_status, duration_ms, error, reply
FROM attempts WHERE event_id = $1 ORDER BY destination, number
"""


def with_attempts(record: str, parameters: int) -> str:
    """Return a statement that records results and their attempts. `record` has this many parameters."""
    first = parameters + 1
    first_removed = first_behind(first, _TYPES)
    parts = {
        "{attempts}": arrays(first, _TYPES),
        "{removed}": arrays(first_removed, _REMOVED_TYPES),
        "{ids}": f"${first_removed + 1}",
        "{first}": str(KEEP_FIRST),
        "{record}": record,
    }
    statement = _RECORD
    for name, text in parts.items():
        statement = statement.replace(name, text)
    return statement


def attempt_arrays(results: Iterable[tuple[int, Result]], clock: DatabaseClock) -> list[Sequence[Any]]:
    """Return the parameters of `with_attempts` behind those of `record`, of results with their places."""
    rows: list[tuple[Any, ...]] = []
    removed: list[tuple[Any, ...]] = []
    for place, result in results:
        name = (place, result.delivery.event.id, result.delivery.destination)
        rows += [
            (
                *(*name, each.number, clock.to_database(each.at), each.reason, each.http_status),
                *(duration_ms(each.duration), each.error, each.reply),
            )
            for each in attempts_of(result)
        ]
        if last := last_to_remove(result):
            removed.append((*name, last))
    return [*columns(rows, _TYPES), *columns(removed, _REMOVED_TYPES)]


async def attempts_by_destination(
    connection: Connection, event_id: str, rows: Sequence[DeliveryRow], *, clock: DatabaseClock
) -> dict[str, tuple[Attempt, ...]]:
    """Return the attempts of an event's deliveries, by destination."""
    stored: dict[str, list[Attempt]] = {}
    for destination, *values in await connection.fetch(_OF_EVENT, event_id):
        stored.setdefault(destination, []).append(_attempt(values, clock))
    return {row.destination: listed_attempts(row, stored.get(row.destination, ())) for row in rows}


def _attempt(values: Sequence[Any], clock: DatabaseClock) -> Attempt:
    number, at_ms, reason, http_status, took_ms, error, reply = values
    return Attempt(
        number=number,
        at=clock.from_database(at_ms),
        reason=reason,
        http_status=http_status,
        duration=duration_from(took_ms),
        error=error,
        reply=reply,
    )
