"""Reads a SQLite store for a copy, in batches, in the order in which it was written.

The source holds the store's lock, so that no gateway writes to it in the meantime, and changes nothing. It
returns damaged events as far as they can be read, because they must not stop the copy of the others.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.errors import SchemaVersionError, StoreError
from gatehouse.store import audit
from gatehouse.store.accepting import HELD
from gatehouse.store.copying import operations
from gatehouse.store.rows import EVENT_COLUMNS
from gatehouse.store.sqlite.connection import connect
from gatehouse.store.sqlite.files import FileLock
from gatehouse.store.sqlite.rows import CHECKED_COLUMNS, fetch, intact_event, text_or_bytes, text_with_marks
from gatehouse.store.sqlite.schema import migrations

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gatehouse.events.event import Event
    from gatehouse.store.accepting import Key
    from gatehouse.store.legacy_keys import PlaceRow
    from gatehouse.store.operations import Operation
    from gatehouse.store.sqlite.connection import Connection

#: A batch ends at the limit that is reached first. A single event may be larger than the limit.
BATCH_EVENTS: Final = 500
BATCH_BYTES: Final = 4 * 1024 * 1024
BATCH_KEYS: Final = 2000

_LENGTHS: Final = """
SELECT seq, length(body) + length(headers) + coalesce(length(document), 0)
  + coalesce((SELECT sum(length(reply)) FROM attempts WHERE event_seq = events.seq), 0)
FROM events
WHERE seq > ? ORDER BY seq LIMIT ?
"""
_EVENTS: Final = f"""
SELECT seq, verified_by, stored_ms, {CHECKED_COLUMNS} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq
"""  # noqa: S608 - of constants
#: A delivery that was leased when the gateway ended may have been attempted: the attempt is counted, and the
#: delivery is due at once.
_DELIVERIES: Final = """
SELECT event_seq, destination, status, attempts + (leased_until_ms > 0), received_ms,
  iif(leased_until_ms > 0, received_ms, due_ms), last_reason, last_http_status, updated_ms, since_ms, earlier,
  order_key, last_duration_ms, note, discarded_by
FROM deliveries WHERE event_seq > ? AND event_seq <= ? ORDER BY event_seq, destination
"""
_ATTEMPTS: Final = """
SELECT event_seq, destination, number, at_ms, reason, http_status, duration_ms, error, reply
FROM attempts WHERE event_seq > ? AND event_seq <= ? ORDER BY event_seq, destination, number
"""
_REPLIES: Final = """
SELECT event_seq, status, content_type, body FROM replies WHERE event_seq > ? AND event_seq <= ?
ORDER BY event_seq
"""
_FIRST_KEYS: Final = """
SELECT source, place, key, event_id, expires_ms FROM dedupe_keys ORDER BY source, place, key LIMIT ?
"""
_NEXT_KEYS: Final = """
SELECT source, place, key, event_id, expires_ms FROM dedupe_keys WHERE (source, place, key) > (?, ?, ?)
ORDER BY source, place, key LIMIT ?
"""
_KEYS_UP_TO: Final = "SELECT count(*) FROM dedupe_keys WHERE (source, place, key) <= (?, ?, ?)"
_PLACES: Final = "SELECT source, place, scope FROM dedupe_places ORDER BY source, place, scope"
_PAUSED: Final = "SELECT destination FROM paused_destinations ORDER BY destination"
_AUDIT: Final = f"SELECT {audit.COLUMNS} FROM audit ORDER BY seq"  # noqa: S608 - of a constant
_COUNT: Final = "SELECT count(*) FROM {table}"
#: Data that changes when a gateway runs on the store: the pending deliveries, the number of dead ones, and
#: the newest event.
_STATE: Final = (
    """
SELECT seq, CAST(id AS BLOB) FROM events
WHERE seq IN (SELECT min(seq) FROM events UNION SELECT max(seq) FROM events)
""",
    """
SELECT destination, due_ms, leased_until_ms, event_seq FROM deliveries INDEXED BY deliveries_pending
WHERE due_ms IS NOT NULL ORDER BY destination, due_ms, leased_until_ms, event_seq
""",
    "SELECT count(*) FROM deliveries WHERE status = 'dead'",
    "SELECT id, state, position FROM operations ORDER BY id",
    _PAUSED,
)


class SourceEvent(NamedTuple):
    """An event, or what can be read of it."""

    seq: int
    #: None if the event is damaged.
    event: Event | None
    digest: Any
    #: The values of `EVENT_COLUMNS`. Damaged text is bytes.
    columns: Sequence[Any]
    #: They may be damaged too.
    verified_by: Any
    stored_ms: Any

    @property
    def id(self) -> str:
        """The id that the file contains now, as readable text."""
        value = self.columns[0]
        return value if isinstance(value, str) else text_with_marks(bytes(value or b""))


class SourceDelivery(NamedTuple):
    """A delivery as it is in the file, but without its lease, which ended with its process."""

    seq: int
    destination: str
    status: str
    attempts: int
    received_ms: int
    #: None unless the delivery is pending. `HELD` if it is held behind another one.
    due_ms: int | None
    last_reason: str | None
    last_http_status: int | None
    updated_ms: int
    since_ms: int | None
    earlier: int | None
    order_key: bytes | None
    last_duration_ms: int | None
    note: str | None
    discarded_by: str | None

    @property
    def is_held(self) -> bool:
        """Whether the delivery is held behind another one."""
        return self.due_ms == HELD


class SourceAttempt(NamedTuple):
    """An attempt of a delivery."""

    seq: int
    destination: str
    number: int
    at_ms: int
    reason: str
    http_status: int | None
    duration_ms: int | None
    error: str | None
    reply: bytes | None


class SourceReply(NamedTuple):
    """The reply of a destination to an event that was relayed to it."""

    seq: int
    status: int
    content_type: bytes | None
    body: bytes


class SourceBatch(NamedTuple):
    """Consecutive events, with their deliveries, attempts and replies."""

    events: list[SourceEvent]
    deliveries: list[SourceDelivery]
    attempts: list[SourceAttempt]
    replies: list[SourceReply]

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.events[-1].seq


class SourceTotals(NamedTuple):
    """The numbers of rows."""

    events: int
    deliveries: int
    keys: int
    replies: int


#: An audit entry: the values of `gatehouse.store.audit.COLUMNS`.
AuditRow = tuple[int, str, str, str, str, int]
#: A dedupe key: source, place, key, the event's id, and when the key expires (unix milliseconds).
KeyRow = tuple[str, int, bytes, str, int]


class CopySource:
    """A SQLite store that no gateway uses. Create it with `copy_source`."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self._connection = connection

    async def state(self) -> bytes:
        """Return a digest that changes when a gateway has run on the store."""
        return await self._connection.run(_state)

    async def totals(self) -> SourceTotals:
        """Count all rows."""
        return await self._connection.run(_totals)

    async def up_to(self, event_seq: int, key: Key | None) -> SourceTotals:
        """Count the rows up to an event and a key, which an earlier copy has reached."""
        return await self._connection.run(partial(_up_to, event_seq=event_seq, key=key))

    async def batch(self, after: int) -> SourceBatch | None:
        """Return the events after a number; None at the end."""
        return await self._connection.run(partial(_batch, after=after))

    async def keys(self, after: Key | None) -> list[KeyRow]:
        """Return the dedupe keys after a key; an empty list at the end."""
        return await self._connection.run(partial(_keys, after=after))

    async def places(self) -> list[PlaceRow]:
        """Return the places of the dedupe keys that version 0.1 may have stored."""
        return await self._connection.run(_places)

    async def paused(self) -> list[str]:
        """Return the destinations that are paused."""
        return await self._connection.run(_paused)

    async def operations(self) -> list[Operation]:
        """Return the replays and retries of many events."""
        return await self._connection.run(operations.read)

    async def audit(self) -> list[AuditRow]:
        """Return the values of `COLUMNS` of every audit entry, in the order in which they were stored."""
        return await self._connection.run(_audit)


@asynccontextmanager
async def copy_source(path: Path) -> AsyncIterator[CopySource]:
    """Lock and open a store for a block. Raises `StoreInUseError` if a gateway uses it."""
    lock = _lock(path)
    try:
        connection = await connect(path, query_only=True)
        try:
            await connection.run(partial(_check_schema, path=path))
            yield CopySource(path, connection)
        finally:
            await connection.close()
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    if not path.is_file():
        raise StoreError(
            f"{path} is not a file", hint="name the SQLite store: --from sqlite:////path/to/it.db"
        )
    return FileLock(path)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = len(migrations())
    if version > known:
        raise SchemaVersionError(
            f"{path} has schema version {version}; this gatehouse knows versions up to {known}",
            hint="copy it with the newer gatehouse that wrote it",
        )
    if version < known:
        raise SchemaVersionError(
            f"{path} has schema version {version}, and {known} is needed",
            hint="migrate it first: gatehouse store migrate, with a config whose store.url names this file",
        )


def _state(connection: sqlite3.Connection) -> bytes:
    state = hashlib.sha256()
    for statement in _STATE:
        for row in connection.execute(statement):
            state.update(repr(row).encode("utf-8", "backslashreplace"))
        state.update(b"\0")
    return state.digest()


def _totals(connection: sqlite3.Connection) -> SourceTotals:
    tables = ("events", "deliveries", "dedupe_keys", "replies")
    return SourceTotals(*(connection.execute(_COUNT.format(table=table)).fetchone()[0] for table in tables))


def _up_to(connection: sqlite3.Connection, event_seq: int, key: Key | None) -> SourceTotals:
    (events,) = connection.execute("SELECT count(*) FROM events WHERE seq <= ?", (event_seq,)).fetchone()
    keys = 0 if key is None else connection.execute(_KEYS_UP_TO, key).fetchone()[0]
    return SourceTotals(events, 0, keys, 0)


def _batch(connection: sqlite3.Connection, after: int) -> SourceBatch | None:
    last = _end_of_batch(connection, after)
    if last is None:
        return None
    span = (after, last)
    events = [
        SourceEvent(seq, intact_event(row), row[0], row[2:], verified_by, stored_ms)
        for seq, verified_by, stored_ms, *row in fetch(connection, _EVENTS, span, text_or_bytes)
    ]
    deliveries = [SourceDelivery(*row) for row in fetch(connection, _DELIVERIES, span, text_with_marks)]
    attempts = [SourceAttempt(*row) for row in fetch(connection, _ATTEMPTS, span, text_with_marks)]
    replies = [SourceReply(*row) for row in connection.execute(_REPLIES, span)]
    return SourceBatch(events, deliveries, attempts, replies)


def _end_of_batch(connection: sqlite3.Connection, after: int) -> int | None:
    """Return the number of the last event that fits. Lengths are read without the bodies."""
    last, room = None, BATCH_BYTES
    for seq, length in connection.execute(_LENGTHS, (after, BATCH_EVENTS)):
        room -= length or 0
        if last is not None and room < 0:
            break
        last = seq
    return last


def _keys(connection: sqlite3.Connection, after: Key | None) -> list[KeyRow]:
    if after is None:
        return connection.execute(_FIRST_KEYS, (BATCH_KEYS,)).fetchall()
    return connection.execute(_NEXT_KEYS, (*after, BATCH_KEYS)).fetchall()


def _places(connection: sqlite3.Connection) -> list[PlaceRow]:
    return connection.execute(_PLACES).fetchall()


def _paused(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute(_PAUSED)]


def _audit(connection: sqlite3.Connection) -> list[AuditRow]:
    return connection.execute(_AUDIT).fetchall()


def named_columns(columns: Sequence[Any]) -> dict[str, Any]:
    """Return the values of `EVENT_COLUMNS` by name."""
    names = map(str.strip, EVENT_COLUMNS.split(","))
    return dict(zip(names, columns, strict=True))
