"""Keeps operations in the SQLite file, finds their events, and runs their steps.

One process has the file, so an operation that another process left is taken at once. A replay scans the
events in the order of their ids. A retry scans the dead deliveries in the order of the events' numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.store.listing import first_id, last_id
from gatehouse.store.operations import (
    COLUMNS,
    MAX_RUNNING,
    Candidate,
    Candidates,
    KnownDelivery,
    PlanStep,
    StepResult,
    allowed,
    count_due,
    from_row,
    is_known,
    plan_step,
    scan_rows,
    to_row,
)
from gatehouse.store.rows import milliseconds
from gatehouse.store.sqlite import replaying
from gatehouse.store.sqlite.filters import event_filters, filter_parameters, own_delivery_filters
from gatehouse.store.sqlite.rows import execute_rows, fetch, text_with_marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from gatehouse.store.operations import Kind, Operation, Step
    from gatehouse.store.records import EventQuery
    from gatehouse.store.sqlite.filters import Parameters

#: How many operations one call removes.
_FORGOTTEN_AT_ONCE: Final = 100

_ADD: Final = f"""
INSERT INTO operations ({COLUMNS})
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
WHERE (SELECT count(*) FROM operations WHERE state = 'running') < {MAX_RUNNING}
"""  # noqa: S608 - of constants
_ONE: Final = f"SELECT {COLUMNS} FROM operations WHERE id = ?"  # noqa: S608 - of a constant
_LATEST: Final = f"SELECT {COLUMNS} FROM operations WHERE kind = ? ORDER BY id DESC LIMIT ?"  # noqa: S608
_TAKE: Final = "UPDATE operations SET owner = ? WHERE state = 'running'"
_TAKEN: Final = f"SELECT {COLUMNS} FROM operations WHERE state = 'running' AND owner = ? ORDER BY id"  # noqa: S608
_ANY_RUNNING: Final = "SELECT 1 FROM operations WHERE state = 'running' LIMIT 1"
_HOLDS: Final = "SELECT 1 FROM operations WHERE id = ? AND owner = ? AND state = 'running'"
_RELEASE: Final = "UPDATE operations SET owner = NULL WHERE owner = ?"
_CANCEL: Final = (
    "UPDATE operations SET state = 'cancelled', ended_ms = ?, owner = NULL WHERE id = ? AND state = 'running'"
)
_ADVANCE: Final = """
UPDATE operations SET position = ?1, done = done + ?2, failed = failed + ?3,
  state = iif(?4, 'done', state), ended_ms = iif(?4, ?5, NULL), owner = iif(?4, NULL, owner)
WHERE id = ?6
"""
_OLD: Final = "SELECT id FROM operations WHERE state <> 'running' AND ended_ms < ? ORDER BY id LIMIT ?"
_FORGET: Final = f"DELETE FROM operations WHERE id IN ({_OLD})"  # noqa: S608 - of a constant

_RANGE_OF_EVENTS: Final = """
SELECT max(id), count(*) FROM (
  SELECT id FROM events WHERE id > :after AND id < :last ORDER BY id LIMIT :scan_rows
)
"""
_RANGE_OF_DEAD: Final = """
SELECT max(event_seq), count(*) FROM (
  SELECT event_seq FROM deliveries INDEXED BY deliveries_dead_by_event
  WHERE status = 'dead' AND event_seq > :after ORDER BY event_seq LIMIT :scan_rows
)
"""
_IN_RANGE_OF_EVENTS: Final = "events.id > :after AND events.id <= :end"
_IN_RANGE_OF_DEAD: Final = """
events.seq IN (
  SELECT event_seq FROM deliveries INDEXED BY deliveries_dead_by_event
  WHERE status = 'dead' AND event_seq > :after AND event_seq <= :end
)
"""
#: What a retry would make due.
_RETRIED: Final = """
deliveries.status = 'dead' AND deliveries.updated_ms <= :started
AND deliveries.destination IN (SELECT value FROM json_each(:names)) AND {filters}
"""
_HAS_RETRIED: Final = """
EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_seq = events.seq AND {retried})
"""
_CANDIDATES: Final = """
SELECT events.id, {key} FROM events WHERE {conditions} ORDER BY {key} LIMIT :limit
"""
_COUNT: Final = """
WITH matching AS MATERIALIZED (SELECT seq, source, type FROM events WHERE {conditions})
SELECT source, type, NULL, count(*) FROM matching GROUP BY source, type
UNION ALL
SELECT NULL, NULL, deliveries.destination, count(*)
FROM matching CROSS JOIN deliveries ON deliveries.event_seq = matching.seq
WHERE {of_deliveries} GROUP BY deliveries.destination
"""
_STORED: Final = """
SELECT events.id, events.seq FROM (VALUES {rows}) AS wanted JOIN events ON events.id = wanted.column1
"""
_KNOWN: Final = """
SELECT events.id, deliveries.destination, deliveries.status, deliveries.updated_ms
FROM (VALUES {rows}) AS wanted
CROSS JOIN events ON events.id = wanted.column1
CROSS JOIN deliveries ON deliveries.event_seq = events.seq
"""
_KNOWN_RETRIED: Final = """
SELECT events.id, deliveries.destination, deliveries.status, deliveries.updated_ms
FROM json_each(:ids) AS wanted
CROSS JOIN events ON events.id = wanted.value
CROSS JOIN deliveries ON deliveries.event_seq = events.seq
WHERE {retried}
"""


class _Scan(NamedTuple):
    """Which events one scan selects."""

    conditions: str
    #: The column whose values are positions.
    key: str
    parameters: Parameters
    end: str | int
    is_last: bool


def add(connection: sqlite3.Connection, operation: Operation) -> bool:
    """Store an operation, inside the caller's transaction."""
    return connection.execute(_ADD, to_row(operation)).rowcount > 0


def find(connection: sqlite3.Connection, operation_id: str) -> Operation | None:
    """Return an operation."""
    row = connection.execute(_ONE, (operation_id,)).fetchone()
    return None if row is None else from_row(row)


def latest(connection: sqlite3.Connection, kind: Kind, *, limit: int) -> list[Operation]:
    """Return the latest operations of a kind."""
    return [from_row(row) for row in connection.execute(_LATEST, (kind, limit)).fetchall()]


def is_any_running(connection: sqlite3.Connection) -> bool:
    """Tell whether there is an operation to run."""
    return connection.execute(_ANY_RUNNING).fetchone() is not None


def is_any_to_forget(connection: sqlite3.Connection, *, before: float) -> bool:
    """Tell whether there is an operation that `forget` would remove."""
    return connection.execute(_OLD, (milliseconds(before), 1)).fetchone() is not None


def take(connection: sqlite3.Connection, owner: str) -> list[Operation]:
    """Take all running operations, inside the caller's transaction."""
    connection.execute(_TAKE, (owner,))
    return [from_row(row) for row in connection.execute(_TAKEN, (owner,)).fetchall() if is_known(row)]


def is_held(connection: sqlite3.Connection, operation_id: str, owner: str) -> bool:
    """Tell whether the operation runs, and whether it is the owner's."""
    return connection.execute(_HOLDS, (operation_id, owner)).fetchone() is not None


def release(connection: sqlite3.Connection, owner: str) -> None:
    """Give up the owner's operations, inside the caller's transaction."""
    connection.execute(_RELEASE, (owner,))


def cancel(connection: sqlite3.Connection, operation_id: str, *, now: float) -> bool:
    """Stop an operation, inside the caller's transaction."""
    return connection.execute(_CANCEL, (milliseconds(now), operation_id)).rowcount > 0


def forget(connection: sqlite3.Connection, *, before: float) -> None:
    """Remove old operations, inside the caller's transaction."""
    connection.execute(_FORGET, (milliseconds(before), _FORGOTTEN_AT_ONCE))


def candidates(
    connection: sqlite3.Connection,
    operation: Operation,
    position: str,
    configured: Collection[str],
    *,
    limit: int,
) -> Candidates:
    """Find the next events of an operation."""
    scan = _scan(connection, operation, position, configured)
    statement = _CANDIDATES.replace("{conditions}", scan.conditions).replace("{key}", scan.key)
    rows = fetch(connection, statement, scan.parameters | {"limit": limit}, text_with_marks)
    events = tuple(Candidate(event_id, str(key)) for event_id, key in rows)
    if len(events) >= limit:
        return Candidates(events, events[-1].position, done=False)
    return Candidates(events, str(scan.end), scan.is_last)


def plan(
    connection: sqlite3.Connection, operation: Operation, position: str, configured: Collection[str]
) -> PlanStep:
    """Count the events and deliveries of one scan."""
    scan = _scan(connection, operation, position, configured)
    if operation.kind == "retry":
        of_deliveries = _retried(operation.query)
    elif operation.to is None:
        of_deliveries = "deliveries.destination IN (SELECT value FROM json_each(:names))"
    else:
        of_deliveries = "false"
    statement = _COUNT.replace("{conditions}", scan.conditions).replace("{of_deliveries}", of_deliveries)
    events: Counter[tuple[str, str]] = Counter()
    deliveries: Counter[str] = Counter()
    for source, event_type, destination, number in fetch(
        connection, statement, scan.parameters, text_with_marks
    ):
        if destination is None:
            events[source, event_type] += number
        else:
            deliveries[destination] += number
    if operation.kind == "replay" and operation.to is not None:
        deliveries.update(dict.fromkeys(allowed(operation, configured), events.total()))
    return PlanStep(dict(events), dict(deliveries), str(scan.end), scan.is_last)


def _scan(
    connection: sqlite3.Connection, operation: Operation, position: str, configured: Collection[str]
) -> _Scan:
    query, is_retry = operation.query, operation.kind == "retry"
    limit = scan_rows(operation)
    after = int(position or 0) if is_retry else max(position, first_id(query))
    parameters = filter_parameters(query) | {
        "after": after,
        "last": last_id(query),
        "scan_rows": limit,
        "names": json.dumps(allowed(operation, configured)),
        "started": milliseconds(operation.started),
    }
    find_range = _RANGE_OF_DEAD if is_retry else _RANGE_OF_EVENTS
    end, scanned = connection.execute(find_range, parameters).fetchone()
    parameters["end"] = end = after if end is None else end
    conditions = _IN_RANGE_OF_EVENTS
    if is_retry:
        has_retried = _HAS_RETRIED.replace("{retried}", _retried(query))
        conditions = f"{_IN_RANGE_OF_DEAD} AND {has_retried}"
    conditions = f"{conditions} AND {event_filters(query)}"
    key = "events.seq" if is_retry else "events.id"
    return _Scan(conditions, key, parameters, end, scanned < limit)


def run_step(
    connection: sqlite3.Connection, operation: Operation, owner: str, step: Step
) -> StepResult | None:
    """Run a step, inside the caller's transaction."""
    if not is_held(connection, operation.id, owner):
        return None
    ids = [(event_id,) for event_id in step.event_ids]
    numbers = dict(execute_rows(connection, _STORED, ids))
    known = _known(connection, operation, step)
    planned = plan_step(operation, step, numbers, known, milliseconds(operation.started))
    rows = [(numbers[event_id], name) for event_id, name in planned.wanted]
    change = replaying.revive_rows if operation.kind == "retry" else replaying.replay_rows
    by_number = {number: event_id for event_id, number in numbers.items()}
    changed = [(by_number[number], name) for number, name in change(connection, rows, now=step.now)]
    _advance(connection, operation.id, step, planned.done, planned.failed)
    return StepResult(count_due(changed, known), planned.done, planned.failed)


def _known(connection: sqlite3.Connection, operation: Operation, step: Step) -> list[KnownDelivery]:
    """Return the deliveries of the events of a step; for a retry, those that it makes due."""
    if operation.kind == "replay":
        rows = execute_rows(connection, _KNOWN, [(event_id,) for event_id in step.event_ids])
        return [KnownDelivery(*row) for row in rows]
    parameters = filter_parameters(operation.query) | {
        "ids": json.dumps(step.event_ids),
        "names": json.dumps(allowed(operation, step.configured)),
        "started": milliseconds(operation.started),
    }
    statement = _KNOWN_RETRIED.replace("{retried}", _retried(operation.query))
    return [KnownDelivery(*row) for row in connection.execute(statement, parameters)]


def _retried(query: EventQuery) -> str:
    return _RETRIED.replace("{filters}", own_delivery_filters(query))


def _advance(connection: sqlite3.Connection, operation_id: str, step: Step, done: int, failed: int) -> None:
    values: tuple[Any, ...] = (step.position, done, failed, step.is_last, milliseconds(step.now))
    connection.execute(_ADVANCE, (*values, operation_id))
