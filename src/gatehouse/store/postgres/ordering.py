"""Keeps the order of deliveries, whichever gateway accepts or delivers them.

As in SQLite, in each order group one delivery is active and the others are held: pending with the `due_ms`
`HELD`, which never comes. Here two gateways can use the same group at the same moment: one accepts a delivery
while the other records the end of the active one. Both first lock the group, and read it after that.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gatehouse.store.accepting import HELD
from gatehouse.store.postgres.rows import short_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from gatehouse.store.accepting import OrderGroup
    from gatehouse.store.postgres.connection import Connection

#: Each statement must see what was committed before it. Otherwise the locks would not help.
BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"

#: The key of an advisory lock. Any number works that no other program on the database uses.
_EXCLUSIVE: Final = 0x6761_7465_616C_6F6E

_TAKEN: Final = """
SELECT wanted.number FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS wanted (destination, key, number)
WHERE (
  SELECT true FROM deliveries
  WHERE destination = wanted.destination AND order_key = wanted.key AND due_ms IS NOT NULL
  ORDER BY due_ms, order_seq LIMIT 1
)
"""
#: Another delivery than the one that ended may be active, so the statement checks whether there is one.
_FREE: Final = f"""
WITH following AS MATERIALIZED (
  SELECT ended.destination, (
      SELECT held.event_id FROM deliveries AS held
      WHERE held.destination = ended.destination AND held.order_key = ended.key AND held.due_ms = {HELD}
      ORDER BY held.order_seq LIMIT 1
    ) AS event_id
  FROM unnest($1::text[], $2::bytea[]) AS ended (destination, key)
  WHERE (
    SELECT true FROM deliveries AS active
    WHERE active.destination = ended.destination AND active.order_key = ended.key
      AND active.due_ms < {HELD}
    ORDER BY active.due_ms, active.order_seq LIMIT 1
  ) IS NULL
)
UPDATE deliveries SET due_ms = $3 FROM following
WHERE deliveries.event_id = ANY (ARRAY(SELECT event_id FROM following)) AND deliveries.status = 'pending'
  AND deliveries.event_id = following.event_id AND deliveries.destination = following.destination
"""  # noqa: S608 - of a constant
#: All held deliveries of a destination, whether or not one is active.
_FREE_HELD: Final = f"""
UPDATE deliveries SET due_ms = $2, order_key = NULL
WHERE destination = $1 AND due_ms = {HELD} AND event_id = ANY (ARRAY(
  SELECT event_id FROM deliveries WHERE destination = $1 AND due_ms = {HELD}
  ORDER BY due_ms, place LIMIT $3 FOR UPDATE SKIP LOCKED
))
"""  # noqa: S608 - of a constant


async def begin(connection: Connection, groups: Collection[OrderGroup], *, exclusive: bool = False) -> None:
    """Begin a transaction that locks these groups. Only one `exclusive` transaction runs at a time."""
    await connection.execute(f"{BEGIN}; {_lock(groups, *([_EXCLUSIVE] if exclusive else []))}")


async def taken(connection: Connection, groups: Collection[OrderGroup]) -> set[OrderGroup]:
    """Return the groups that have a pending delivery."""
    wanted = list(groups)
    rows = await connection.fetch(_TAKEN, *_columns(wanted))
    return {wanted[number - 1] for (number,) in rows}


async def free(connection: Connection, groups: Collection[OrderGroup], *, now_ms: int) -> None:
    """Make the next held delivery of each group due unless one is active, inside the caller's transaction."""
    if groups:
        await connection.execute(_lock(groups))
        await connection.execute(_FREE, *_columns(groups), now_ms)


async def free_held(connection: Connection, destination: str, *, now_ms: int, limit: int) -> int:
    """Make held deliveries due and remove their order key."""
    done: str = await connection.execute(_FREE_HELD, destination, now_ms, limit)
    return int(done.rpartition(" ")[2])


def _columns(groups: Collection[OrderGroup]) -> tuple[list[str], list[bytes]]:
    return [destination for destination, _ in groups], [short_key(key) for _, key in groups]


def _lock(groups: Collection[OrderGroup], *others: int) -> str:
    # All gateways lock in the same order, so that they can't deadlock.
    numbers = ",".join(map(str, sorted([*map(_lock_key, groups), *others])))
    return f"SELECT pg_advisory_xact_lock(n) FROM unnest('{{{numbers}}}'::bigint[]) AS n"  # noqa: S608 - of numbers


def _lock_key(group: OrderGroup) -> int:
    destination, key = group
    name = b"%s\0%s" % (destination.encode(), short_key(key))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)
