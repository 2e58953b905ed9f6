"""Writes a copy to the database, batch by batch, with a mark of the progress.

A batch and its mark are one transaction, and existing rows are not changed. So a copy can end at any moment,
and the next one continues there.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from gatehouse.errors import StoreError
from gatehouse.store import audit
from gatehouse.store.accepting import HELD, Key
from gatehouse.store.copying.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_TYPES,
    AUDIT_TYPES,
    DELIVERY_COLUMNS,
    DELIVERY_TYPES,
    EVENT_COLUMNS,
    EVENT_TYPES,
    REPLY_COLUMNS,
    REPLY_TYPES,
    convert_key,
)
from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.rows import arrays, columns, first_behind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatehouse.store.accepting import OrderGroup
    from gatehouse.store.copying.rows import CopiedAttempt, CopiedBatch, CopiedDelivery
    from gatehouse.store.copying.source import AuditRow, KeyRow
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection

#: The key of an advisory lock that is held while a copy runs. After a copy was killed, the server may still
#: process its last batch.
_LOCK: Final = 0x6761_7465_636F_7079
_LOCK_TIMEOUT: Final = 20.0
#: The time limit of one statement (seconds).
_TIMEOUT: Final = 300.0
#: How many order groups one transaction frees.
_MAX_GROUPS: Final = 500

#: The first copy creates this table. Only copies read it.
_CREATE: Final = """
CREATE TABLE IF NOT EXISTS gatehouse_copies (
  state bytea PRIMARY KEY,
  source bytea NOT NULL,
  -- Whether other events were here before.
  used_store boolean NOT NULL,
  begun timestamptz NOT NULL DEFAULT now(),
  -- When the check had found nothing.
  finished timestamptz,
  -- Up to which event, and which dedupe key, it is.
  event_seq bigint NOT NULL DEFAULT 0,
  key_source text COLLATE "C",
  key_place smallint,
  key bytea
)
"""
_MARK: Final = """
SELECT used_store, event_seq, key_source, key_place, key, finished IS NOT NULL
FROM gatehouse_copies WHERE state = $1
"""
_UNFINISHED: Final = "SELECT source FROM gatehouse_copies WHERE finished IS NULL ORDER BY begun DESC LIMIT 1"
_IS_USED: Final = "SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM dedupe_keys)"
_BEGIN: Final = "INSERT INTO gatehouse_copies (state, source, used_store) VALUES ($1, $2, $3)"
_FINISH: Final = "UPDATE gatehouse_copies SET finished = now() WHERE state = $1"
_PAUSE: Final = """
INSERT INTO paused_destinations SELECT * FROM unnest($1::text[]) ON CONFLICT (destination) DO NOTHING
"""
#: Not the entries that an earlier run has copied.
_ADD_AUDIT: Final = f"""
INSERT INTO audit ({audit.COLUMNS})
SELECT * FROM unnest({arrays(1, AUDIT_TYPES)}) AS new ({audit.COLUMNS})
WHERE NOT EXISTS (
  SELECT 1 FROM audit AS known
  WHERE (known.at_ms, known.who, known.action, known.what) = (new.at_ms, new.who, new.action, new.what)
)
"""  # noqa: S608 - of constants
#: $1: the copy, $2: the mark, $3: now.
_FIRST: Final = 4
_DELIVERY_ARRAYS: Final = (*DELIVERY_TYPES, "bigint", "bigint")
_FIRST_DELIVERY: Final = first_behind(_FIRST, EVENT_TYPES)
_ATTEMPT_ARRAYS: Final = (*ATTEMPT_TYPES, "bigint")
_FIRST_ATTEMPT: Final = first_behind(_FIRST_DELIVERY, _DELIVERY_ARRAYS)
_FIRST_REPLY: Final = first_behind(_FIRST_ATTEMPT, _ATTEMPT_ARRAYS)
_WRITE: Final = f"""
WITH mark AS (
  UPDATE gatehouse_copies SET event_seq = $2 WHERE state = $1
), new_events AS (
  INSERT INTO events ({EVENT_COLUMNS}) SELECT * FROM unnest({arrays(_FIRST, EVENT_TYPES)})
  ON CONFLICT (id) DO NOTHING
), new_deliveries AS (
  INSERT INTO deliveries ({DELIVERY_COLUMNS}, updated_ms, due_ms, place, leased_until_ms, token)
  SELECT {DELIVERY_COLUMNS}, updated_ms, CASE WHEN due_ms IS NOT NULL THEN greatest(due_ms, $3::bigint) END,
    number, 0, 0
  FROM unnest({arrays(_FIRST_DELIVERY, _DELIVERY_ARRAYS)}) WITH ORDINALITY
    AS new ({DELIVERY_COLUMNS}, updated_ms, due_ms, number)
  ON CONFLICT (event_id, destination) DO NOTHING
), new_attempts AS (
  INSERT INTO attempts ({ATTEMPT_COLUMNS}, at_ms)
  SELECT * FROM unnest({arrays(_FIRST_ATTEMPT, _ATTEMPT_ARRAYS)})
  ON CONFLICT (event_id, destination, number) DO NOTHING
)
INSERT INTO replies ({REPLY_COLUMNS}) SELECT * FROM unnest({arrays(_FIRST_REPLY, REPLY_TYPES)})
ON CONFLICT (event_id) DO NOTHING
"""  # noqa: S608 - of constants
_KEY_TYPES: Final = ("text", "smallint", "bytea", "text", "bigint")
#: $1: the copy, $2 to $4: the mark, $5: now. An existing key that has not expired stays.
_WRITE_KEYS: Final = f"""
WITH mark AS (
  UPDATE gatehouse_copies SET key_source = $2, key_place = $3, key = $4 WHERE state = $1
)
INSERT INTO dedupe_keys AS keys (source, place, key, event_id, expires_ms)
SELECT * FROM unnest({arrays(6, _KEY_TYPES)})
ON CONFLICT (source, place, key) DO UPDATE
SET event_id = excluded.event_id, expires_ms = excluded.expires_ms
WHERE keys.expires_ms <= $5::bigint AND excluded.expires_ms > $5::bigint
"""  # noqa: S608 - of constants
_ANALYZE: Final = "ANALYZE events, deliveries, attempts, dedupe_keys, replies"
_ORDER_KEY: Final = DELIVERY_COLUMNS.split(", ").index("order_key")
_ACTIVE: Final = f"""
SELECT wanted.number FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS wanted (destination, key, number)
WHERE EXISTS (
  SELECT 1 FROM deliveries
  WHERE destination = wanted.destination AND order_key = wanted.key AND due_ms < {HELD}
)
"""  # noqa: S608 - of a constant
_STUCK: Final = f"""
SELECT DISTINCT destination, order_key FROM deliveries AS held
WHERE order_key IS NOT NULL AND due_ms = {HELD} AND NOT EXISTS (
  SELECT 1 FROM deliveries AS active
  WHERE active.destination = held.destination AND active.order_key = held.order_key
    AND active.due_ms < {HELD}
)
LIMIT {_MAX_GROUPS}
"""  # noqa: S608 - of constants


class CopyTarget:
    """The database that a copy is written to. Call `begin` first."""

    def __init__(self, connection: Connection, clock: DatabaseClock, state: bytes) -> None:
        self.connection = connection
        self._clock = clock
        self._state = state
        self.is_used_store = False
        self.is_finished = False
        #: Whether an earlier run has copied a part.
        self.is_resumed = False
        self.event_seq = 0
        self.key: Key | None = None

    async def begin(self, path: Path, *, into_used_store: bool) -> None:
        """Find the mark of an earlier run, or start. Raises `StoreError` if the database is in use."""
        await self._lock()
        await self.connection.execute(_CREATE)
        mark = await self.connection.fetchrow(_MARK, self._state)
        if mark is not None:
            self.is_resumed = True
            self.is_used_store, self.event_seq, *key, self.is_finished = mark
            self.key = None if key[2] is None else (key[0], key[1], key[2])
            return
        name = str(path).encode("utf-8", "surrogateescape")
        self.is_used_store = await self._is_used(name, allowed=into_used_store)
        await self.connection.execute(_BEGIN, self._state, name, self.is_used_store)

    async def _lock(self) -> None:
        until = time.monotonic() + _LOCK_TIMEOUT
        while not await self.connection.fetchval(f"SELECT pg_try_advisory_lock({_LOCK})"):
            if time.monotonic() > until:
                raise StoreError("another copy to this database is running", hint="wait until it has ended")
            await asyncio.sleep(0.2)

    async def _is_used(self, name: bytes, *, allowed: bool) -> bool:
        is_used: bool = await self.connection.fetchval(_IS_USED)
        if not is_used or allowed:
            return is_used
        unfinished = await self.connection.fetchval(_UNFINISHED)
        if unfinished == name:
            raise StoreError(
                "a gateway has used the SQLite store since this copy began, so the copy is out of date",
                hint="start again with an empty database",
            )
        what = "an unfinished copy of another store" if unfinished is not None else "events"
        raise StoreError(
            f"the database already contains {what}",
            hint="use an empty database, or add to this one with --into-used-store",
        )

    async def write(self, batch: CopiedBatch, last: int) -> None:
        """Insert the rows that do not exist yet, and move the mark."""
        deliveries = sorted(batch.deliveries, key=_due)
        groups = {_group_of(each) for each in deliveries if _group_of(each) is not None and each.due_ms}
        if not groups:
            await self._write(batch, deliveries, set(), last)
            return
        await ordering.begin(self.connection, groups)  # type: ignore[arg-type]
        try:
            active = await self._active(list(groups))  # type: ignore[arg-type]
            await self._write(batch, deliveries, active, last)
        except BaseException:
            # If the connection is lost, the transaction is too.
            if not self.connection.is_closed():
                await self.connection.execute("ROLLBACK")
            raise
        await self.connection.execute("COMMIT")

    async def _write(
        self, batch: CopiedBatch, deliveries: Sequence[CopiedDelivery], active: set[OrderGroup], last: int
    ) -> None:
        rows = [self._delivery_row(each, active) for each in deliveries]
        await self.connection.execute(
            _WRITE,
            self._state,
            last,
            self._clock.now(),
            *columns(list(batch.events.values()), EVENT_TYPES),
            *columns(rows, _DELIVERY_ARRAYS),
            *columns([self._attempt_row(each) for each in batch.attempts], _ATTEMPT_ARRAYS),
            *columns(batch.replies, REPLY_TYPES),
            timeout=_TIMEOUT,
        )

    def _delivery_row(self, each: CopiedDelivery, active: set[OrderGroup]) -> tuple[Any, ...]:
        due_ms = each.due_ms
        if due_ms is not None and _group_of(each) in active:
            due_ms = HELD
        if due_ms is not None and due_ms != HELD:
            due_ms = self._clock.to_database(due_ms / 1000)
        return (*each.values, self._clock.to_database(each.updated_ms / 1000), due_ms)

    def _attempt_row(self, each: CopiedAttempt) -> tuple[Any, ...]:
        return (*each.values, self._clock.to_database(each.at_ms / 1000))

    async def _active(self, groups: list[OrderGroup]) -> set[OrderGroup]:
        """Return the groups that already have an active delivery."""
        names, keys = zip(*groups, strict=True)
        rows = await self.connection.fetch(_ACTIVE, names, keys)
        return {groups[number - 1] for (number,) in rows}

    async def write_keys(self, rows: Sequence[KeyRow]) -> None:
        """Insert keys in their order, and move the mark."""
        values = [
            (*convert_key(row), event_id, self._clock.to_database(expires_ms / 1000))
            for row in rows
            for event_id, expires_ms in (row[3:],)
        ]
        await self.connection.execute(
            _WRITE_KEYS,
            self._state,
            *rows[-1][:3],
            self._clock.now(),
            *columns(values, _KEY_TYPES),
            timeout=_TIMEOUT,
        )

    async def pause(self, destinations: Sequence[str]) -> None:
        """Pause destinations before their deliveries are copied, because a gateway may already run."""
        await self.connection.execute(_PAUSE, destinations)

    async def add_audit(self, rows: Sequence[AuditRow]) -> None:
        """Insert audit entries that do not exist yet."""
        await self.connection.execute(_ADD_AUDIT, *columns(rows, AUDIT_TYPES), timeout=_TIMEOUT)

    async def free_and_analyze(self) -> None:
        """Make deliveries due that are held behind nothing, and update the planner's statistics."""
        await self.connection.execute(_ANALYZE, timeout=_TIMEOUT)
        before = None
        while (stuck := await self.connection.fetch(_STUCK, timeout=_TIMEOUT)) and stuck != before:
            before = stuck
            await self.connection.execute(ordering.BEGIN)
            await ordering.free(
                self.connection, {(name, key) for name, key in stuck}, now_ms=self._clock.now()
            )
            await self.connection.execute("COMMIT")

    async def finish(self) -> None:
        """Mark the copy as complete."""
        await self.connection.execute(_FINISH, self._state)


def _group_of(each: CopiedDelivery) -> OrderGroup | None:
    destination, order_key = each.values[1], each.values[_ORDER_KEY]
    return None if order_key is None else (destination, order_key)


def _due(each: CopiedDelivery) -> int:
    return each.due_ms or 0
