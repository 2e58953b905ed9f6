"""Keeps operations in the database, finds their events, and runs their steps.

Several gateways share the database. A step locks the row of its operation, so another gateway that takes the
operation, or a request that cancels it, comes before or after the step and never between. Events and dead
deliveries are scanned in the order of the events' ids.
"""

from __future__ import annotations

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
from gatehouse.store.postgres import ordering, replaying
from gatehouse.store.postgres.filters import Conditions, add_delivery_filters, add_event_filters, can_match
from gatehouse.store.postgres.notifications import NOTIFY
from gatehouse.store.postgres.purging import NO_PURGE
from gatehouse.store.postgres.rows import text_with_marks

if TYPE_CHECKING:
    from collections.abc import Collection

    from gatehouse.store.operations import Kind, Operation, Step
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection

#: How many operations one call removes.
_FORGOTTEN_AT_ONCE: Final = 100
#: The key of an advisory lock. Two gateways that add operations count them one after the other.
_ADDING: Final = 0x6761_7465_6F70_6572

_ADD: Final = f"""
INSERT INTO operations ({COLUMNS})
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
WHERE (SELECT count(*) FROM operations WHERE state = 'running') < {MAX_RUNNING}
"""  # noqa: S608 - of constants
_ONE: Final = f"SELECT {COLUMNS} FROM operations WHERE id = $1"  # noqa: S608 - of a constant
_LATEST: Final = f"SELECT {COLUMNS} FROM operations WHERE kind = $1 ORDER BY id DESC LIMIT $2"  # noqa: S608
_TAKE: Final = f"""
UPDATE operations SET owner = $1, leased_until_ms = $3
WHERE state = 'running' AND (owner IS NULL OR owner = $1 OR leased_until_ms <= $2)
RETURNING {COLUMNS}
"""  # noqa: S608 - of a constant
_KEEP: Final = """
UPDATE operations SET leased_until_ms = $3 WHERE id = $1 AND owner = $2 AND state = 'running' RETURNING true
"""
_LOCK: Final = "SELECT true FROM operations WHERE id = $1 AND owner = $2 AND state = 'running' FOR UPDATE"
_RELEASE: Final = "UPDATE operations SET owner = NULL WHERE owner = $1"
_GIVE_BACK: Final = f"{_RELEASE} AND id = ANY ($2::text[])"
_CANCEL: Final = """
UPDATE operations SET state = 'cancelled', ended_ms = $2, owner = NULL WHERE id = $1 AND state = 'running'
"""
_ADVANCE: Final = """
UPDATE operations SET position = $2, done = done + $3, failed = failed + $4, leased_until_ms = $5,
  state = CASE WHEN $6 THEN 'done' ELSE state END,
  ended_ms = CASE WHEN $6 THEN $7::bigint END,
  owner = CASE WHEN $6 THEN NULL ELSE owner END
WHERE id = $1
"""
_FORGET: Final = """
DELETE FROM operations WHERE id = ANY (ARRAY(
  SELECT id FROM operations WHERE state <> 'running' AND ended_ms < $1 ORDER BY id LIMIT $2
))
"""

_RANGE_OF_EVENTS: Final = """
SELECT max(id), count(*) FROM (
  SELECT id FROM events WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
) AS scanned
"""
_RANGE_OF_DEAD: Final = """
SELECT max(event_id), count(*) FROM (
  SELECT event_id FROM deliveries WHERE status = 'dead' AND event_id > $1 AND event_id < $2
  ORDER BY event_id LIMIT $3
) AS scanned
"""
_DEAD_IN_RANGE: Final = """
events.id = ANY (ARRAY(
  SELECT event_id FROM deliveries WHERE status = 'dead' AND event_id > {} AND event_id <= {}
))
"""
#: What a retry would make due.
_RETRIED: Final = """
deliveries.status = 'dead' AND deliveries.updated_ms <= {} AND deliveries.destination = ANY ({}::text[])
"""
_HAS: Final = "EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event_id = events.id AND {conditions})"
_CANDIDATES: Final = "SELECT id FROM events WHERE {conditions} ORDER BY id LIMIT {limit}"
_COUNT: Final = """
WITH matching AS MATERIALIZED (SELECT id, source, type FROM events WHERE {conditions})
SELECT source, type, NULL AS destination, count(*) FROM matching GROUP BY source, type
UNION ALL
SELECT NULL, NULL, deliveries.destination, count(*)
FROM matching CROSS JOIN LATERAL (
  SELECT * FROM deliveries WHERE event_id = matching.id
) AS deliveries
WHERE {of_deliveries} GROUP BY deliveries.destination
"""
#: Purges wait for the transaction, so these events stay.
_STORED: Final = "SELECT id FROM events WHERE id = ANY ($1::text[])"
_KNOWN: Final = """
SELECT event_id, destination, status, updated_ms FROM deliveries WHERE event_id = ANY ($1::text[])
"""


class _Scan(NamedTuple):
    """Which events one scan selects."""

    conditions: Conditions
    end: str
    is_last: bool


async def add(connection: Connection, operation: Operation, *, clock: DatabaseClock) -> bool:
    """Store an operation."""
    await connection.execute(f"{ordering.BEGIN}; SELECT pg_advisory_xact_lock({_ADDING})")
    done: str = await connection.execute(_ADD, *to_row(operation, clock.to_database))
    await connection.execute("COMMIT")
    return done.endswith(" 1")


async def find(connection: Connection, operation_id: str, *, clock: DatabaseClock) -> Operation | None:
    """Return an operation."""
    row = await connection.fetchrow(_ONE, operation_id)
    return None if row is None else from_row(tuple(row), clock.from_database)


async def latest(connection: Connection, kind: Kind, *, limit: int, clock: DatabaseClock) -> list[Operation]:
    """Return the latest operations of a kind."""
    rows = await connection.fetch(_LATEST, kind, limit)
    return [from_row(tuple(row), clock.from_database) for row in rows]


async def take(
    connection: Connection, owner: str, *, now: float, until: float, clock: DatabaseClock
) -> list[Operation]:
    """Take the operations whose lease has ended, and renew those of the owner."""
    rows = await connection.fetch(_TAKE, owner, clock.to_database(now), clock.to_database(until))
    if unknown := [row[0] for row in rows if not is_known(tuple(row))]:
        await connection.execute(_GIVE_BACK, owner, unknown)
    return [from_row(tuple(row), clock.from_database) for row in rows if is_known(tuple(row))]


async def keep(
    connection: Connection, operation_id: str, owner: str, *, until: float, clock: DatabaseClock
) -> bool:
    """Renew the lease of an operation."""
    return bool(await connection.fetchval(_KEEP, operation_id, owner, clock.to_database(until)))


async def release(connection: Connection, owner: str) -> None:
    """Give up the owner's operations."""
    await connection.execute(_RELEASE, owner)


async def cancel(connection: Connection, operation_id: str, *, now: float, clock: DatabaseClock) -> bool:
    """Stop an operation."""
    done: str = await connection.execute(_CANCEL, operation_id, clock.to_database(now))
    return done.endswith(" 1")


async def forget(connection: Connection, *, before: float, clock: DatabaseClock) -> None:
    """Remove old operations."""
    await connection.execute(_FORGET, clock.to_database(before), _FORGOTTEN_AT_ONCE)


async def candidates(
    connection: Connection,
    operation: Operation,
    position: str,
    configured: Collection[str],
    *,
    limit: int,
    clock: DatabaseClock,
) -> Candidates:
    """Find the next events of an operation."""
    if not can_match(operation.query):
        return Candidates((), position, done=True)
    scan = await _scan(connection, operation, position, configured, clock)
    wanted = scan.conditions
    statement = _CANDIDATES.replace("{limit}", wanted.parameter(limit)).replace("{conditions}", str(wanted))
    rows = await connection.fetch(statement, *wanted.parameters)
    events = tuple(Candidate(event_id, event_id) for (event_id,) in rows)
    if len(events) >= limit:
        return Candidates(events, events[-1].position, done=False)
    return Candidates(events, scan.end, scan.is_last)


async def plan(
    connection: Connection,
    operation: Operation,
    position: str,
    configured: Collection[str],
    *,
    clock: DatabaseClock,
) -> PlanStep:
    """Count the events and deliveries of one scan."""
    if not can_match(operation.query):
        return PlanStep({}, {}, position, done=True)
    scan = await _scan(connection, operation, position, configured, clock)
    of_deliveries = "false"
    if operation.kind == "retry":
        of_deliveries = _retried(scan.conditions, operation, configured, clock)
    elif operation.to is None:
        names = scan.conditions.parameter(allowed(operation, configured))
        of_deliveries = f"deliveries.destination = ANY ({names}::text[])"
    statement = _COUNT.replace("{of_deliveries}", of_deliveries).replace("{conditions}", str(scan.conditions))
    events: Counter[tuple[str, str]] = Counter()
    deliveries: Counter[str] = Counter()
    for source, event_type, destination, number in await connection.fetch(
        statement, *scan.conditions.parameters
    ):
        if destination is None:
            events[source, text_with_marks(event_type)] += number
        else:
            deliveries[destination] += number
    if operation.kind == "replay" and operation.to is not None:
        deliveries.update(dict.fromkeys(allowed(operation, configured), events.total()))
    return PlanStep(dict(events), dict(deliveries), scan.end, scan.is_last)


async def _scan(
    connection: Connection,
    operation: Operation,
    position: str,
    configured: Collection[str],
    clock: DatabaseClock,
) -> _Scan:
    query, is_retry = operation.query, operation.kind == "retry"
    limit, after = scan_rows(operation), max(position, first_id(query))
    find_range = _RANGE_OF_DEAD if is_retry else _RANGE_OF_EVENTS
    end, scanned = await connection.fetchrow(find_range, after, last_id(query), limit) or (None, 0)
    end = end or after
    wanted = Conditions()
    if is_retry:
        wanted.add(_DEAD_IN_RANGE, after, end)
        retried = _retried(wanted, operation, configured, clock)
        wanted.add(_HAS.replace("{conditions}", retried))
    else:
        wanted.add("events.id > {}", after)
        wanted.add("events.id <= {}", end)
    add_event_filters(wanted, query)
    return _Scan(wanted, end, scanned < limit)


def _retried(
    conditions: Conditions, operation: Operation, configured: Collection[str], clock: DatabaseClock
) -> str:
    """Return the condition on what a retry makes due. Adds the values of its parameters."""
    retried = Conditions(conditions.parameters)
    retried.add(_RETRIED, clock.to_database(operation.started), allowed(operation, configured))
    add_delivery_filters(retried, operation.query)
    return str(retried)


async def run_step(
    connection: Connection, operation: Operation, owner: str, step: Step, *, clock: DatabaseClock
) -> StepResult | None:
    """Run a step in one transaction."""
    await connection.execute(f"{ordering.BEGIN}; {NO_PURGE}")
    if not await connection.fetchval(_LOCK, operation.id, owner):
        await connection.execute("ROLLBACK")
        return None
    ids = sorted(step.event_ids)
    stored = {event_id for (event_id,) in await connection.fetch(_STORED, ids)}
    known = await _known(connection, operation, step, ids, clock)
    planned = plan_step(operation, step, stored, known, clock.to_database(operation.started))
    change = replaying.revive_rows if operation.kind == "retry" else replaying.replay_rows
    changed = await change(connection, planned.wanted, now=step.now, clock=clock)
    await _advance(connection, operation.id, step, (planned.done, planned.failed), clock)
    await connection.execute(NOTIFY, sorted({name for _, name in changed}))
    await connection.execute("COMMIT")
    return StepResult(count_due(changed, known), planned.done, planned.failed)


async def _known(
    connection: Connection, operation: Operation, step: Step, ids: list[str], clock: DatabaseClock
) -> list[KnownDelivery]:
    """Return the deliveries of the events of a step; for a retry, those that it makes due."""
    wanted, statement = Conditions([ids]), _KNOWN
    if operation.kind == "retry":
        statement = f"{_KNOWN} AND {_retried(wanted, operation, step.configured, clock)}"
    return [KnownDelivery(*row) for row in await connection.fetch(statement, *wanted.parameters)]


async def _advance(
    connection: Connection, operation_id: str, step: Step, counts: tuple[int, int], clock: DatabaseClock
) -> None:
    times = clock.to_database(step.until), clock.to_database(step.now)
    values: tuple[Any, ...] = (operation_id, step.position, *counts, times[0], step.is_last, times[1])
    await connection.execute(_ADVANCE, *values)
