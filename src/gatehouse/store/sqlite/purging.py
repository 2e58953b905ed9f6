"""Purging the SQLite file: small steps over keys by expiry, over events by id, over free pages by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.base import Purged
from gatehouse.store.rows import first_id_at, milliseconds

if TYPE_CHECKING:
    import sqlite3

#: Free pages are used again by what arrives. The file is made smaller only when they are many, since moving
#: pages about costs more than leaving them.
_MIN_FREE_PAGES: Final = 4096
_FREE_SHARE: Final = 4
_VACUUM_PAGES: Final = 64

_PURGE_KEYS: Final = """
DELETE FROM dedupe_keys WHERE (source, place, key) IN (
  SELECT source, place, key FROM dedupe_keys WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?
)
"""
_NEXT_EVENTS: Final = """
SELECT max(id), count(*) FROM (SELECT id FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?)
"""
_IS_EXPIRED: Final = """
NOT EXISTS (SELECT 1 FROM deliveries WHERE event_seq = events.seq AND status = 'pending')
AND events.received_ms < iif(
  EXISTS (SELECT 1 FROM deliveries WHERE event_seq = events.seq AND status = 'dead'),
  :dead_before,
  :events_before
)
"""
_PURGE_EVENTS: Final = """
DELETE FROM events WHERE id > :after AND id <= :last AND {is_expired}
""".replace("{is_expired}", _IS_EXPIRED)


class Horizon(NamedTuple):
    """Up to when things have expired (unix seconds)."""

    now: float
    events_before: float
    dead_before: float


class Step(NamedTuple):
    """What one step removed, and the id after which the next step goes on ("" is the start)."""

    purged: Purged
    cursor: str


def purge(connection: sqlite3.Connection, horizon: Horizon, *, limit: int, cursor: str) -> Step:
    """Remove keys, then events; inside the caller's transaction.

    The cursor spares the next step the events that this one looked at and kept.
    """
    keys = connection.execute(_PURGE_KEYS, (milliseconds(horizon.now), limit)).rowcount
    if keys >= limit:
        return Step(Purged(events=0, keys=keys, done=False), cursor)
    room = limit - keys
    end = first_id_at(max(horizon.events_before, horizon.dead_before))
    last, seen = connection.execute(_NEXT_EVENTS, (cursor, end, room)).fetchone()
    last = last or cursor
    span = {
        "after": cursor,
        "last": last,
        "events_before": milliseconds(horizon.events_before),
        "dead_before": milliseconds(horizon.dead_before),
    }
    events = connection.execute(_PURGE_EVENTS, span).rowcount
    done = seen < room and not _vacuum(connection)
    return Step(Purged(events=events, keys=keys, done=done), "" if done else last)


def _vacuum(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the disk when there are many. Whether there was something to do."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free < max(_MIN_FREE_PAGES, pages // _FREE_SHARE):
        return False
    # Of however many the statement is asked for, the driver has it free one: it has no columns and ends with
    # its first row.
    for _ in range(_VACUUM_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return True
