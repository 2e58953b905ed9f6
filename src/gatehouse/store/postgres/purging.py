"""Purging in small steps: keys by expiry, events by id with their deliveries and replies.

One gateway at a time: two would look at the same rows, and a retry or a replay must not come between the look
at an event's deliveries and its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.base import Counts, Purged
from gatehouse.store.postgres.ordering import BEGIN
from gatehouse.store.rows import first_id_at, milliseconds

if TYPE_CHECKING:
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection

_LOCK: Final = 0x6761_7465_7075_7267
#: Held by who makes something due again: waits for the step of a purge, and keeps the next from beginning.
NO_PURGE: Final = f"SELECT pg_advisory_xact_lock_shared({_LOCK})"
_ALONE: Final = f"SELECT pg_try_advisory_xact_lock({_LOCK})"

#: Not from the bottom: what the step before removed may be in the index still.
_PURGE_KEYS: Final = """
WITH gone AS (
  DELETE FROM dedupe_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM dedupe_keys WHERE expires_ms >= $1 AND expires_ms <= $2
    ORDER BY expires_ms LIMIT $3 FOR UPDATE SKIP LOCKED
  )) RETURNING expires_ms
)
SELECT count(*), max(expires_ms) FROM gone
"""
_PURGE_EVENTS: Final = """
WITH span AS (
  SELECT id, received_ms FROM events WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
), expired AS (
  SELECT span.id FROM span LEFT JOIN LATERAL (
    SELECT bool_or(status = 'pending') AS pending, bool_or(status = 'dead') AS dead
    FROM deliveries WHERE event_id = span.id
  ) AS found ON true
  WHERE NOT coalesce(found.pending, false)
    AND span.received_ms < CASE WHEN found.dead THEN $4::bigint ELSE $5::bigint END
), of_events AS (
  DELETE FROM events WHERE id = ANY (ARRAY(SELECT id FROM expired)) RETURNING 1
), of_deliveries AS (
  DELETE FROM deliveries WHERE event_id = ANY (ARRAY(SELECT id FROM expired))
), of_replies AS (
  DELETE FROM replies WHERE event_id = ANY (ARRAY(SELECT id FROM expired))
)
SELECT (SELECT max(id) FROM span), (SELECT count(*) FROM span), (SELECT count(*) FROM of_events)
"""
_COUNTS: Final = """
SELECT destination, count(*), 0, min(received_ms) FROM deliveries
WHERE due_ms IS NOT NULL GROUP BY destination
UNION ALL
SELECT destination, 0, count(*), NULL FROM deliveries WHERE status = 'dead' GROUP BY destination
"""
_SIZE: Final = """
SELECT sum(pg_total_relation_size(name::regclass))::bigint
FROM unnest('{events,dedupe_keys,deliveries,replies}'::text[]) AS name
"""


class Horizon(NamedTuple):
    """Up to when things have expired (unix seconds)."""

    now: float
    events_before: float
    dead_before: float


class Place(NamedTuple):
    """Where the next step goes on."""

    #: By when the keys expire.
    key: int = 0
    #: The id of the event ("" is the start): spares the next step those that this one looked at and kept.
    event: str = ""


class Step(NamedTuple):
    """What one step removed, and where the next one goes on."""

    purged: Purged
    place: Place


async def purge(
    connection: Connection, horizon: Horizon, *, limit: int, place: Place, clock: DatabaseClock
) -> Step:
    """Remove keys, then events, unless somebody else is at it."""
    await connection.execute(BEGIN)
    alone = await connection.fetchval(_ALONE)
    step = (
        await _purge(connection, horizon, limit, place, clock.to_database(horizon.now))
        if alone
        else Step(Purged(events=0, keys=0, done=True), place)
    )
    await connection.execute("COMMIT")
    return step


async def _purge(connection: Connection, horizon: Horizon, limit: int, place: Place, now_ms: int) -> Step:
    row = await connection.fetchrow(_PURGE_KEYS, place.key, now_ms, limit)
    keys, key = row or (0, None)
    place = Place(key or place.key, place.event)
    if keys >= limit:
        return Step(Purged(events=0, keys=keys, done=False), place)
    room = limit - keys
    end = first_id_at(max(horizon.events_before, horizon.dead_before))
    before = milliseconds(horizon.dead_before), milliseconds(horizon.events_before)
    row = await connection.fetchrow(_PURGE_EVENTS, place.event, end, room, *before)
    last, seen, events = row or (None, 0, 0)
    done = seen < room
    return Step(
        Purged(events=events, keys=keys, done=done),
        Place() if done else Place(place.key, last or place.event),
    )


async def counts(connection: Connection) -> dict[str, Counts]:
    """Count the deliveries by destination."""
    found: dict[str, Counts] = {}
    for name, pending, dead, oldest_ms in await connection.fetch(_COUNTS):
        before = found.get(name) or Counts(pending=0, dead=0, oldest_pending=None)
        oldest = before.oldest_pending if oldest_ms is None else oldest_ms / 1000
        found[name] = Counts(pending=before.pending + pending, dead=before.dead + dead, oldest_pending=oldest)
    return found


async def size(connection: Connection) -> int:
    """Return the bytes of the tables, their indexes and what is kept beside them."""
    found: int | None = await connection.fetchval(_SIZE)
    return found or 0
