"""Compares a copy with its source: reads every row again from both sides, in batches.

Bodies are not transferred: each side computes their SHA-256 from the bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gatehouse.store import audit
from gatehouse.store.accepting import HELD
from gatehouse.store.copying.operations import find_missing
from gatehouse.store.copying.rows import (
    ATTEMPT_COLUMNS,
    AUDIT_TYPES,
    DELIVERY_COLUMNS,
    EVENT_COLUMNS,
    REPLY_COLUMNS,
    convert_batch,
    convert_key,
)
from gatehouse.store.postgres.rows import arrays, columns
from gatehouse.store.rows import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatehouse.store.copying.rows import CopiedBatch
    from gatehouse.store.copying.source import AuditRow, KeyRow, SourceBatch
    from gatehouse.store.operations import Operation
    from gatehouse.store.postgres.connection import Connection

#: How many of the rows that differ are listed by name.
NAMED: Final = 20
_TIMEOUT: Final = 300.0

_BUT_BODY: Final = EVENT_COLUMNS.removesuffix(", body")
_EVENTS: Final = f"SELECT {_BUT_BODY}, sha256(body) FROM events WHERE id = ANY($1::text[])"  # noqa: S608
_DELIVERIES: Final = f"""
SELECT {DELIVERY_COLUMNS}, due_ms, token FROM deliveries WHERE event_id = ANY($1::text[])
"""  # noqa: S608 - of constants
_ATTEMPTS: Final = f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE event_id = ANY($1::text[])"  # noqa: S608
_REPLIES: Final = f"SELECT {REPLY_COLUMNS} FROM replies WHERE event_id = ANY($1::text[])"  # noqa: S608
_KEYS: Final = """
SELECT wanted.number, keys.event_id
FROM unnest($1::text[], $2::smallint[], $3::bytea[]) WITH ORDINALITY AS wanted (source, place, key, number)
JOIN dedupe_keys AS keys
  ON keys.source = wanted.source AND keys.place = wanted.place AND keys.key = wanted.key
"""
_PAUSED: Final = "SELECT destination FROM paused_destinations WHERE destination = ANY($1::text[])"
_AUDIT: Final = f"""
SELECT DISTINCT ON (wanted.number) wanted.number
FROM unnest({arrays(1, AUDIT_TYPES)}) WITH ORDINALITY AS wanted ({audit.COLUMNS}, number)
JOIN audit AS known ON (known.at_ms, known.who, known.role, known.action, known.what, known.count)
  = (wanted.at_ms, wanted.who, wanted.role, wanted.action, wanted.what, wanted.count)
"""  # noqa: S608 - of constants
#: The kinds of rows, in the order in which they are shown.
ROWS: Final = (
    "events",
    "deliveries pending",
    "deliveries held",
    "deliveries delivered",
    "deliveries dead",
    "deliveries discarded",
    "attempts",
    "dedupe keys",
    "replies",
    "paused",
    "audit",
    "operations",
)


@dataclass(slots=True)
class Comparison:
    """The result of the comparison so far."""

    #: Whether the database contained other rows before the copy. They take precedence, and a gateway may use
    #: them.
    lenient: bool
    source: Counter[str] = field(default_factory=Counter)
    target: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    #: The names of rows that differ, and of events that were already damaged in the source.
    named: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    #: Deliveries that a gateway on the database has leased since the copy.
    moved_on: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether everything that could be copied is there."""
        return not self.differing.total() and self.source == self.target

    def differs(self, what: str, name: str) -> None:
        """Count a row that is missing or different."""
        self.differing[what] += 1
        if len(self.named) < NAMED:
            self.named.append(f"{what}: {name}")


async def compare_batch(connection: Connection, batch: SourceBatch, found: Comparison) -> None:
    """Compare events with their deliveries, attempts and replies."""
    rows = convert_batch(batch)
    ids = list(rows.events)
    found.damaged += rows.damaged
    found.left_behind += rows.left_behind
    await _compare_events(connection, rows, ids, found)
    moved_on = await _compare_deliveries(connection, rows, ids, found)
    await _compare_attempts(connection, rows, found, moved_on)
    await _compare_replies(connection, rows, ids, found)


async def _compare_events(
    connection: Connection, rows: CopiedBatch, ids: Sequence[str], found: Comparison
) -> None:
    there = {row["id"]: tuple(row) for row in await connection.fetch(_EVENTS, ids, timeout=_TIMEOUT)}
    found.source["events"] += len(ids)
    found.target["events"] += len(there)
    for event_id, values in rows.events.items():
        if there.get(event_id) != (*values[:-1], digest(values[-1])):
            found.differs("events", event_id)


async def _compare_deliveries(
    connection: Connection, rows: CopiedBatch, ids: Sequence[str], found: Comparison
) -> set[tuple[str, str]]:
    """Compare deliveries. Returns those that a gateway has leased since the copy."""
    moved_on: set[tuple[str, str]] = set()
    fetched = await connection.fetch(_DELIVERIES, ids, timeout=_TIMEOUT)
    there = {(row["event_id"], row["destination"]): row for row in fetched}
    for each in rows.deliveries:
        what = _kind(each.values[3], each.due_ms)
        found.source[what] += 1
        row = there.get(each.name)
        if row is None:
            found.differs(what, ":".join(each.name))
            continue
        *values, due_ms, token = row
        if token:
            found.moved_on += 1
            moved_on.add(each.name)
            found.target[what] += 1
            continue
        kind = _kind(values[3], due_ms)
        # The active delivery of the order group may be damaged, or the group may have one from before the
        # copy.
        is_free = found.lenient or found.damaged
        if is_free and {kind, what} == {"deliveries pending", "deliveries held"}:
            kind = what
        found.target[kind] += 1
        if kind != what or tuple(values) != each.values:
            found.differs(what, ":".join(each.name))
    return moved_on


def _kind(status: str, due_ms: int | None) -> str:
    return "deliveries held" if due_ms == HELD else f"deliveries {status}"


async def _compare_attempts(
    connection: Connection, rows: CopiedBatch, found: Comparison, moved_on: set[tuple[str, str]]
) -> None:
    """Compare attempts. Those of a delivery that has moved on may have made room for newer ones."""
    ids = list({each.values[0] for each in rows.attempts})
    fetched = await connection.fetch(_ATTEMPTS, ids, timeout=_TIMEOUT) if ids else []
    there = {tuple(row)[:3]: tuple(row) for row in fetched}
    for each in rows.attempts:
        found.source["attempts"] += 1
        is_free = each.name[:2] in moved_on
        found.target["attempts"] += each.name in there or is_free
        if there.get(each.name) != each.values and not is_free:
            found.differs("attempts", ":".join(map(str, each.name)))


async def _compare_replies(
    connection: Connection, rows: CopiedBatch, ids: Sequence[str], found: Comparison
) -> None:
    there: Mapping[str, Any] = {}
    if rows.replies:
        fetched = await connection.fetch(_REPLIES, ids, timeout=_TIMEOUT)
        there = {row["event_id"]: tuple(row) for row in fetched}
    found.source["replies"] += len(rows.replies)
    found.target["replies"] += len(there)
    for reply in rows.replies:
        if there.get(reply[0]) != reply:
            found.differs("replies", reply[0])


async def compare_keys(connection: Connection, rows: Sequence[KeyRow], found: Comparison) -> None:
    """Compare dedupe keys. In a used database, only check that they exist."""
    sources, places, keys = zip(*map(convert_key, rows), strict=True)
    fetched = await connection.fetch(_KEYS, sources, places, keys, timeout=_TIMEOUT)
    there = {number - 1: event_id for number, event_id in fetched}
    found.source["dedupe keys"] += len(rows)
    found.target["dedupe keys"] += len(there)
    for number, (source, place, _, event_id, _) in enumerate(rows):
        is_same = number in there and (found.lenient or there[number] == event_id)
        if not is_same:
            found.differs("dedupe keys", f"{source}, place {place}, of event {event_id}")


async def compare_paused(connection: Connection, destinations: Sequence[str], found: Comparison) -> None:
    """Compare the paused destinations."""
    there = {name for (name,) in await connection.fetch(_PAUSED, destinations)}
    found.source["paused"] += len(destinations)
    found.target["paused"] += len(there)
    for name in destinations:
        if name not in there:
            found.differs("paused", name)


async def compare_operations(
    connection: Connection, operations: Sequence[Operation], found: Comparison
) -> None:
    """Compare the replays and retries of many events. A gateway may run them already."""
    missing = await find_missing(connection, operations)
    found.source["operations"] += len(operations)
    found.target["operations"] += len(operations) - len(missing)
    for operation_id in missing:
        found.differs("operations", operation_id)


async def compare_audit(connection: Connection, rows: Sequence[AuditRow], found: Comparison) -> None:
    """Compare the audit entries."""
    fetched = await connection.fetch(_AUDIT, *columns(rows, AUDIT_TYPES), timeout=_TIMEOUT)
    there = {number - 1 for (number,) in fetched}
    found.source["audit"] += len(rows)
    found.target["audit"] += len(there)
    for number, (at_ms, who, _, action, *_) in enumerate(rows):
        if number not in there:
            found.differs("audit", f"{action} of {who} at {at_ms / 1000}")
