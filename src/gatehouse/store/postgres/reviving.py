"""Deliveries that are asked for again: dead ones by filter or with their event, events by destination.

Each begins anew: `since_ms` is from when on it is tried, `earlier` how many attempts there were before. A
purge waits meanwhile, or has come first: what is due again must not be what it takes for expired.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.filters import Conditions, add_filters
from gatehouse.store.postgres.hints import NOTIFY
from gatehouse.store.postgres.purging import NO_PURGE
from gatehouse.store.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import DeliveryQuery
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection

#: After any time.
_NEVER: Final = 2**62
#: How many dead ones one statement looks at.
STRETCH: Final = 5000

_STRETCH: Final = """
SELECT max(event_id), count(*) FROM (
  SELECT event_id FROM deliveries WHERE {conditions} ORDER BY event_id LIMIT {stretch}
) AS stretch
"""
#: The oldest first, for the sake of those with order keys: ids of one millisecond are in no order.
_DEAD: Final = """
SELECT deliveries.event_id, deliveries.destination
FROM deliveries JOIN events ON events.id = deliveries.event_id
WHERE {conditions}
ORDER BY left(deliveries.event_id, 10), deliveries.order_seq, deliveries.event_id, deliveries.destination
LIMIT {limit}
"""
#: Of those that are dead. It is not said so, since there is an index of the dead: all of it could be read.
_REVIVE: Final = f"""
UPDATE deliveries SET status = 'pending',
  due_ms = CASE WHEN order_key IS NULL THEN $3::bigint ELSE {ordering.HELD} END,
  leased_until_ms = 0, since_ms = $4, earlier = attempts, updated_ms = $3
FROM unnest($1::text[], $2::text[]) AS wanted (event_id, destination)
WHERE deliveries.event_id = ANY ($1::text[])
  AND deliveries.event_id = wanted.event_id AND deliveries.destination = wanted.destination
  AND deliveries.status NOT IN ('pending', 'delivered') AND coalesce(deliveries.since_ms, 0) <= $5
RETURNING deliveries.destination, deliveries.order_key
"""  # noqa: S608 - of a constant
_EXISTS: Final = "SELECT true FROM events WHERE id = $1"
#: Without its order key: whoever asks for one event does not ask for it to wait, or to hold back others.
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


class Found(NamedTuple):
    """Dead deliveries, by event's id and destination."""

    rows: list[tuple[str, str]]
    #: Up to which event was looked.
    after: str
    #: Whether that is all.
    done: bool


async def find(connection: Connection, query: DeliveryQuery, *, now_ms: int, after: str, limit: int) -> Found:
    """Look for dead deliveries, the oldest first, in a stretch of them."""
    stretch = _dead(query, after)
    statement = _STRETCH.format(conditions=stretch, stretch=stretch.parameter(STRETCH))
    row = await connection.fetchrow(statement, *stretch.parameters)
    end, seen = row or (None, 0)
    if end is None:
        return Found([], after, done=True)
    wanted = _dead(query, after)
    wanted.add("deliveries.event_id <= {}", end)
    wanted.add("deliveries.updated_ms <= {}", now_ms)
    add_filters(wanted, query)
    statement = _DEAD.format(conditions=wanted, limit=wanted.parameter(limit))
    rows = [tuple(row) for row in await connection.fetch(statement, *wanted.parameters)]
    return Found(rows, end, seen < STRETCH and len(rows) < limit)


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
    """Make those due that are still dead, and not asked for since. Returns their numbers by destination."""
    asked_before_ms = _NEVER if asked_before is None else milliseconds(asked_before)
    due_ms = max(clock.to_database(now), clock.now())
    ids, destinations = zip(*sorted(rows), strict=True)
    await connection.execute(f"{ordering.BEGIN}; {NO_PURGE}")
    revived = await connection.fetch(_REVIVE, ids, destinations, due_ms, milliseconds(now), asked_before_ms)
    await ordering.free(connection, {(name, key) for name, key in revived if key is not None}, now_ms=due_ms)
    numbers = dict(Counter(name for name, _ in revived))
    await connection.execute(NOTIFY, list(numbers))
    await connection.execute("COMMIT")
    return numbers


async def replay(
    connection: Connection, event_id: str, destinations: Sequence[str], *, now: float, clock: DatabaseClock
) -> list[str] | None:
    """Make an event due for destinations. Returns those for which it was not."""
    due_ms = max(clock.to_database(now), clock.now())
    wanted = list(dict.fromkeys(destinations))
    await connection.execute(f"{ordering.BEGIN}; {NO_PURGE}")
    if not await connection.fetchval(_EXISTS, event_id):
        await connection.execute("ROLLBACK")
        return None
    rows = await connection.fetch(_REPLAY, event_id, sorted(wanted), due_ms, milliseconds(now))
    changed = {name for (name,) in rows}
    await connection.execute(NOTIFY, list(changed))
    await connection.execute("COMMIT")
    return [name for name in wanted if name in changed]
