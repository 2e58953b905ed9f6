"""Purges the database in small steps, and counts its deliveries and bytes.

A step removes expired keys, audit entries, and then events in the order of their ids, with what belongs to
them.
Only one gateway purges at a time: two would scan the same rows. And no retry or replay may run between the
check of an event's deliveries and its removal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.base import Counts, Cutoffs, Purged
from gatehouse.store.postgres import audit
from gatehouse.store.postgres.ordering import BEGIN
from gatehouse.store.rows import first_id_at, milliseconds

if TYPE_CHECKING:
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection

_LOCK: Final = 0x6761_7465_7075_7267
#: For transactions that make deliveries due again: waits for the current step of a purge, and delays the
#: next.
NO_PURGE: Final = f"SELECT pg_advisory_xact_lock_shared({_LOCK})"
_TRY_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({_LOCK})"

#: Does not start at the bottom, because the index may still contain what the last step removed.
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
), of_attempts AS (
  DELETE FROM attempts WHERE event_id = ANY (ARRAY(SELECT id FROM expired))
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
SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint
FROM unnest('{events,dedupe_keys,deliveries,attempts,replies,audit}'::text[]) AS name
"""


class PurgeCursor(NamedTuple):
    """Where the next step continues."""

    #: When the last keys expired.
    key: int = 0
    #: The event's id; "" is the start. The next step skips the events that this one scanned and kept.
    event: str = ""


class PurgeStep(NamedTuple):
    """What one step removed, and where the next one continues."""

    purged: Purged
    cursor: PurgeCursor


async def purge(
    connection: Connection, cutoffs: Cutoffs, *, limit: int, cursor: PurgeCursor, clock: DatabaseClock
) -> PurgeStep:
    """Remove keys, then audit entries, then events, unless another gateway does so at the moment."""
    await connection.execute(BEGIN)
    has_lock = await connection.fetchval(_TRY_LOCK)
    step = (
        await _purge(connection, cutoffs, limit, cursor, clock.to_database(cutoffs.now))
        if has_lock
        else PurgeStep(Purged(events=0, keys=0, done=True), cursor)
    )
    await connection.execute("COMMIT")
    return step


async def _purge(
    connection: Connection, cutoffs: Cutoffs, limit: int, cursor: PurgeCursor, now_ms: int
) -> PurgeStep:
    row = await connection.fetchrow(_PURGE_KEYS, cursor.key, now_ms, limit)
    keys, key = row or (0, None)
    cursor = PurgeCursor(key or cursor.key, cursor.event)
    if keys >= limit:
        return PurgeStep(Purged(events=0, keys=keys, done=False), cursor)
    expired = await audit.purge(connection, before=cutoffs.audit_before, limit=limit - keys)
    room = limit - keys - expired
    if not room:
        return PurgeStep(Purged(events=0, keys=keys, done=False, audit=expired), cursor)
    end = first_id_at(max(cutoffs.events_before, cutoffs.dead_before))
    before = milliseconds(cutoffs.dead_before), milliseconds(cutoffs.events_before)
    row = await connection.fetchrow(_PURGE_EVENTS, cursor.event, end, room, *before)
    last, scanned, events = row or (None, 0, 0)
    done = scanned < room
    return PurgeStep(
        Purged(events=events, keys=keys, done=done, audit=expired),
        PurgeCursor() if done else PurgeCursor(cursor.key, last or cursor.event),
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
    """Return the bytes of the tables, with their indexes and TOAST tables."""
    found: int | None = await connection.fetchval(_SIZE)
    return found or 0
