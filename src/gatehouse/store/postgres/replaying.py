"""Changes what operators ask for: retries dead deliveries, replays events, pauses destinations.

A delivery that is retried or replayed starts over: `give_up_after` counts from `since_ms`, and `earlier` is
the number of attempts before that. A purge runs before or after these statements and never at the same time,
so that it can't remove a delivery that has just become due.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.accepting import HELD
from gatehouse.store.listing import SCATTERED_ROWS
from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.attempts import KEEP_LAST
from gatehouse.store.postgres.filters import Conditions, add_attempt_filters, add_filters
from gatehouse.store.postgres.notifications import NOTIFY
from gatehouse.store.postgres.purging import NO_PURGE
from gatehouse.store.postgres.rows import encode
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.records import DeliveryQuery

#: Later than any time.
_NEVER: Final = 2**62
_RANGE: Final = """
SELECT max(event_id), count(*) FROM (
  SELECT event_id FROM deliveries WHERE {conditions} ORDER BY event_id LIMIT {scan_rows}
) AS scanned
"""
#: The oldest first, because of the deliveries with order keys. Ids of the same millisecond have no order.
_DEAD: Final = """
SELECT deliveries.event_id, deliveries.destination
FROM deliveries CROSS JOIN LATERAL (SELECT * FROM events WHERE id = deliveries.event_id LIMIT 1) AS events
WHERE {conditions}
ORDER BY left(deliveries.event_id, 10), deliveries.order_seq, deliveries.event_id, deliveries.destination
LIMIT {limit}
"""
#: Of the deliveries that are dead. The condition is not `status = 'dead'`, because then the planner could
#: choose to read the whole index of dead deliveries.
_REVIVE: Final = f"""
UPDATE deliveries SET status = 'pending',
  due_ms = CASE WHEN order_key IS NULL THEN $3::bigint ELSE {HELD} END,
  leased_until_ms = 0, since_ms = $4, earlier = attempts, updated_ms = $3
FROM unnest($1::text[], $2::text[]) AS wanted (event_id, destination)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = wanted.event_id AND deliveries.destination = wanted.destination
  AND deliveries.status NOT IN ('pending', 'delivered', 'discarded')
  AND coalesce(deliveries.since_ms, 0) <= $5
RETURNING deliveries.destination, deliveries.order_key, deliveries.event_id
"""  # noqa: S608 - of a constant
#: The condition on the status is that of `_REVIVE`.
_DISCARD: Final = """
UPDATE deliveries SET status = 'discarded', updated_ms = $3, note = $4, discarded_by = $5
FROM unnest($1::text[], $2::text[]) AS wanted (event_id, destination)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = wanted.event_id AND deliveries.destination = wanted.destination
  AND deliveries.status NOT IN ('pending', 'delivered', 'discarded')
RETURNING deliveries.destination
"""
_EXISTS: Final = "SELECT true FROM events WHERE id = $1"
#: Removes the order key: a replayed event neither waits for others nor holds them back.
_REPLAY: Final = """
INSERT INTO deliveries (event_id, destination, status, attempts, received_ms, due_ms, place,
  leased_until_ms, token, updated_ms, since_ms)
SELECT events.id, wanted.destination, 'pending', 0, events.received_ms, $3::bigint, 0, 0, 0, $3, $4::bigint
FROM unnest($2::text[]) AS wanted (destination) JOIN events ON events.id = $1
ON CONFLICT (event_id, destination) DO UPDATE SET status = 'pending', due_ms = $3, leased_until_ms = 0,
  updated_ms = $3, since_ms = $4, earlier = deliveries.attempts, order_key = NULL, order_seq = NULL
WHERE deliveries.status <> 'pending'
RETURNING destination
"""
#: The same for many events.
_REPLAY_ROWS: Final = """
INSERT INTO deliveries (event_id, destination, status, attempts, received_ms, due_ms, place,
  leased_until_ms, token, updated_ms, since_ms)
SELECT events.id, wanted.destination, 'pending', 0, events.received_ms, $3::bigint, wanted.place, 0, 0, $3,
  $4::bigint
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (event_id, destination, place)
CROSS JOIN LATERAL (SELECT id, received_ms FROM events WHERE id = wanted.event_id LIMIT 1) AS events
ON CONFLICT (event_id, destination) DO UPDATE SET status = 'pending', due_ms = $3, place = excluded.place,
  leased_until_ms = 0, updated_ms = $3, since_ms = $4, earlier = deliveries.attempts, order_key = NULL,
  order_seq = NULL
WHERE deliveries.status <> 'pending'
RETURNING event_id, destination
"""
_PAUSE: Final = f"""
WITH changed AS (INSERT INTO paused_destinations SELECT unnest($1::text[]) ON CONFLICT DO NOTHING)
{NOTIFY}
"""
_RESUME: Final = f"""
WITH changed AS (DELETE FROM paused_destinations WHERE destination = ANY ($1::text[]))
{NOTIFY}
"""  # noqa: S608 - of a constant
_PAUSED: Final = "SELECT destination FROM paused_destinations"


class DeadDeliveries(NamedTuple):
    """Dead deliveries that one scan found."""

    #: The event's id, and the destination.
    rows: list[tuple[str, str]]
    #: The id of the last event that was scanned.
    after: str
    #: Whether nothing is left to scan.
    done: bool


async def find_dead(
    connection: Connection, query: DeliveryQuery, *, now_ms: int, after: str, limit: int
) -> DeadDeliveries:
    """Scan a bounded number of dead deliveries, the oldest first, for those that match a query."""
    bounded = _dead(query, after)
    statement = _RANGE.format(conditions=bounded, scan_rows=bounded.parameter(SCATTERED_ROWS))
    row = await connection.fetchrow(statement, *bounded.parameters)
    end, scanned = row or (None, 0)
    if end is None:
        return DeadDeliveries([], after, done=True)
    wanted = _dead(query, after)
    wanted.add("deliveries.event_id <= {}", end)
    wanted.add("deliveries.updated_ms <= {}", now_ms)
    add_filters(wanted, query)
    add_attempt_filters(wanted, query)
    statement = _DEAD.format(conditions=wanted, limit=wanted.parameter(limit))
    rows = [tuple(row) for row in await connection.fetch(statement, *wanted.parameters)]
    return DeadDeliveries(rows, end, scanned < SCATTERED_ROWS and len(rows) < limit)


def _dead(query: DeliveryQuery, after: str) -> Conditions:
    conditions = Conditions()
    conditions.add("deliveries.status = 'dead'")
    conditions.add("deliveries.event_id > {}", after)
    if query.event_id is not None:
        conditions.add("deliveries.event_id = {}", query.event_id)
    if query.destination is not None:
        conditions.add("deliveries.destination = {}", query.destination)
    return conditions


async def revive(
    connection: Connection,
    rows: Sequence[tuple[str, str]],
    *,
    now: float,
    clock: DatabaseClock,
    asked_before: float | None = None,
) -> dict[str, int]:
    """Make deliveries due that are still dead and were not retried since `asked_before`. Returns counts."""
    await connection.execute(f"{ordering.BEGIN}; {NO_PURGE}")
    revived = await revive_rows(connection, rows, now=now, clock=clock, asked_before=asked_before)
    counts = dict(Counter(name for _, name in revived))
    await connection.execute(NOTIFY, list(counts))
    await connection.execute("COMMIT")
    return counts


async def revive_rows(
    connection: Connection,
    rows: Sequence[tuple[str, str]],
    *,
    now: float,
    clock: DatabaseClock,
    asked_before: float | None = None,
) -> list[tuple[str, str]]:
    """Do the same inside the caller's transaction. Returns the rows that changed."""
    if not rows:
        return []
    asked_before_ms = _NEVER if asked_before is None else milliseconds(asked_before)
    due_ms = max(clock.to_database(now), clock.now())
    ids, destinations = zip(*sorted(rows), strict=True)
    revived = await connection.fetch(_REVIVE, ids, destinations, due_ms, milliseconds(now), asked_before_ms)
    groups = {(name, key) for name, key, _ in revived if key is not None}
    await ordering.free(connection, groups, now_ms=due_ms)
    return [(event_id, name) for name, _, event_id in revived]


async def discard(
    connection: Connection,
    rows: Sequence[tuple[str, str]],
    *,
    note: str,
    by: str,
    now: float,
    clock: DatabaseClock,
) -> dict[str, int]:
    """Discard deliveries that are still dead. Returns counts."""
    ids, destinations = zip(*sorted(rows), strict=True)
    at_ms = clock.to_database(now)
    discarded = await connection.fetch(_DISCARD, ids, destinations, at_ms, encode(note), by)
    return dict(Counter(name for (name,) in discarded))


async def replay(
    connection: Connection, event_id: str, destinations: Sequence[str], *, now: float, clock: DatabaseClock
) -> list[str] | None:
    """Make an event due for destinations. Returns those that changed."""
    due_ms = max(clock.to_database(now), clock.now())
    wanted = list(dict.fromkeys(destinations))
    await connection.execute(f"{ordering.BEGIN}; {NO_PURGE}")
    if not await connection.fetchval(_EXISTS, event_id):
        await connection.execute("ROLLBACK")
        return None
    await connection.execute(KEEP_LAST, event_id, wanted)
    rows = await connection.fetch(_REPLAY, event_id, sorted(wanted), due_ms, milliseconds(now))
    changed = {name for (name,) in rows}
    await connection.execute(NOTIFY, list(changed))
    await connection.execute("COMMIT")
    return [name for name in wanted if name in changed]


async def replay_rows(
    connection: Connection, rows: Sequence[tuple[str, str]], *, now: float, clock: DatabaseClock
) -> list[tuple[str, str]]:
    """Make events due for destinations, inside the caller's transaction. Returns the rows that changed."""
    if not rows:
        return []
    due_ms = max(clock.to_database(now), clock.now())
    ids, destinations = zip(*sorted(rows), strict=True)
    changed = await connection.fetch(_REPLAY_ROWS, ids, destinations, due_ms, milliseconds(now))
    return [(event_id, name) for event_id, name in changed]


async def pause(connection: Connection, destination: str, *, paused: bool) -> None:
    """Pause or resume a destination."""
    await connection.execute(_PAUSE if paused else _RESUME, [destination])


async def paused(connection: Connection) -> frozenset[str]:
    """Return the destinations that are paused."""
    return frozenset(name for (name,) in await connection.fetch(_PAUSED))
