"""Deliveries that follow one another, whichever gateway accepts or delivers them.

As in every store, one of each destination and order key runs and the others are held: pending with a `due_ms`
that never comes. Here two gateways can be at the same order key at one moment, one accepting, one recording
the end of the one that runs. Both take a lock on the order key first and look after that.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gatehouse.store.postgres.rows import short_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from gatehouse.store.deciding import Lock
    from gatehouse.store.postgres.connecting import Connection

#: The `due_ms` of a held delivery. Any that comes is smaller.
HELD: Final = 2**62

#: Each statement is to see what was committed before it: the locks are worth nothing otherwise.
BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"

#: Any number will do that no other program on the database takes.
_ALONE: Final = 0x6761_7465_616C_6F6E

_TAKEN: Final = """
SELECT wanted.number FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS wanted (destination, key, number)
WHERE (
  SELECT true FROM deliveries
  WHERE destination = wanted.destination AND order_key = wanted.key AND due_ms IS NOT NULL
  ORDER BY due_ms, order_seq LIMIT 1
)
"""
#: The one that runs may be another one than the one that ended, so it is asked whether there is any.
_FREE: Final = f"""
WITH following AS MATERIALIZED (
  SELECT ended.destination, (
      SELECT held.event_id FROM deliveries AS held
      WHERE held.destination = ended.destination AND held.order_key = ended.key AND held.due_ms = {HELD}
      ORDER BY held.order_seq LIMIT 1
    ) AS event_id
  FROM unnest($1::text[], $2::bytea[]) AS ended (destination, key)
  WHERE (
    SELECT true FROM deliveries AS running
    WHERE running.destination = ended.destination AND running.order_key = ended.key
      AND running.due_ms < {HELD}
    ORDER BY running.due_ms, running.order_seq LIMIT 1
  ) IS NULL
)
UPDATE deliveries SET due_ms = $3 FROM following
WHERE deliveries.event_id = ANY (ARRAY(SELECT event_id FROM following)) AND deliveries.status = 'pending'
  AND deliveries.event_id = following.event_id AND deliveries.destination = following.destination
"""  # noqa: S608 - of a constant
#: All that is held for a destination, whatever runs.
_FREE_HELD: Final = f"""
UPDATE deliveries SET due_ms = $2, order_key = NULL
WHERE destination = $1 AND due_ms = {HELD} AND event_id = ANY (ARRAY(
  SELECT event_id FROM deliveries WHERE destination = $1 AND due_ms = {HELD}
  ORDER BY due_ms, place LIMIT $3 FOR UPDATE SKIP LOCKED
))
"""  # noqa: S608 - of a constant


async def begin(connection: Connection, locks: Collection[Lock], *, alone: bool = False) -> None:
    """Begin a transaction that holds these locks, and if `alone` that of all who ask for it."""
    await connection.execute(f"{BEGIN}; {_locking(locks, *([_ALONE] if alone else []))}")


async def taken(connection: Connection, locks: Collection[Lock]) -> set[Lock]:
    """Return those of which a delivery is pending."""
    wanted = list(locks)
    rows = await connection.fetch(_TAKEN, *_columns(wanted))
    return {wanted[number - 1] for (number,) in rows}


async def free(connection: Connection, locks: Collection[Lock], *, now_ms: int) -> None:
    """Make the next held delivery of each due, unless one runs; inside the caller's transaction."""
    if locks:
        await connection.execute(_locking(locks))
        await connection.execute(_FREE, *_columns(locks), now_ms)


async def free_held(connection: Connection, destination: str, *, now_ms: int, limit: int) -> int:
    """Make what is held due, and put it in no order any more."""
    done: str = await connection.execute(_FREE_HELD, destination, now_ms, limit)
    return int(done.rpartition(" ")[2])


def _columns(locks: Collection[Lock]) -> tuple[list[str], list[bytes]]:
    return [destination for destination, _ in locks], [short_key(key) for _, key in locks]


def _locking(locks: Collection[Lock], *others: int) -> str:
    # In one order, whoever locks.
    numbers = ",".join(map(str, sorted([*map(_number, locks), *others])))
    return f"SELECT pg_advisory_xact_lock(n) FROM unnest('{{{numbers}}}'::bigint[]) AS n"  # noqa: S608 - of numbers


def _number(lock: Lock) -> int:
    destination, key = lock
    name = b"%s\0%s" % (destination.encode(), short_key(key))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)
