"""Purges the SQLite file in small steps: expired keys, audit entries, events by id, then free pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.base import Cutoffs, Purged
from gatehouse.store.rows import first_id_at, milliseconds
from gatehouse.store.sqlite import audit

if TYPE_CHECKING:
    import sqlite3

#: New rows reuse free pages. The file is made smaller only when there are many of them, because moving pages
#: costs more than leaving them.
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


class PurgeStep(NamedTuple):
    """What one step removed, and the id after which the next step continues ("" is the start)."""

    purged: Purged
    cursor: str


def purge(connection: sqlite3.Connection, cutoffs: Cutoffs, *, limit: int, cursor: str) -> PurgeStep:
    """Remove keys, then audit entries, then events, inside the caller's transaction.

    The cursor lets the next step skip the events that this one scanned and kept.
    """
    keys = connection.execute(_PURGE_KEYS, (milliseconds(cutoffs.now), limit)).rowcount
    if keys >= limit:
        return PurgeStep(Purged(events=0, keys=keys, done=False), cursor)
    expired = audit.purge(connection, before=cutoffs.audit_before, limit=limit - keys)
    room = limit - keys - expired
    if not room:
        return PurgeStep(Purged(events=0, keys=keys, done=False, audit=expired), cursor)
    end = first_id_at(max(cutoffs.events_before, cutoffs.dead_before))
    last, scanned = connection.execute(_NEXT_EVENTS, (cursor, end, room)).fetchone()
    last = last or cursor
    span = {
        "after": cursor,
        "last": last,
        "events_before": milliseconds(cutoffs.events_before),
        "dead_before": milliseconds(cutoffs.dead_before),
    }
    events = connection.execute(_PURGE_EVENTS, span).rowcount
    done = scanned < room and not _vacuum(connection)
    return PurgeStep(Purged(events=events, keys=keys, done=done, audit=expired), "" if done else last)


def _vacuum(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the disk when there are many. Returns whether there were."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free < max(_MIN_FREE_PAGES, pages // _FREE_SHARE):
        return False
    # The driver frees only one page per statement, whatever number it is asked for: the statement has no
    # columns, so the driver ends it with its first row.
    for _ in range(_VACUUM_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return True
