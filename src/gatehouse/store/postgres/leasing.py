"""Leasing what is due, by the state of its row: no gateway waits for what another is taking just now.

Finished deliveries leave the index of pending ones only when a vacuum removes them, which a transaction that
is open anywhere in the database keeps it from. Until then a look for what is due would walk over all of them.
So each destination has a floor: below it nothing pending was left when this process last looked, and nothing
new is written there, since `due_ms` is never written in the past. Now and then a look begins at the bottom
all the same, for what a clock or a very late commit put there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.store.base import Delivery
from gatehouse.store.postgres.ordering import HELD
from gatehouse.store.postgres.rows import CHECKED_COLUMNS, sound_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.store.base import Which
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection

#: How much later than its `due_ms` a row may be committed, and clocks differ.
_MARGIN_MS: Final = 5000
#: How often a look begins at the bottom (seconds).
_FULL_LOOK: Final = 60.0
BOTTOM: Final = -(2**62)
#: The bits of a token that tell the process, and those that count its leases.
PROCESS_BITS: Final = 26
COUNTER_BITS: Final = 36
#: The bit that says that the delivery may have an order key.
ORDERED: Final = 1

#: $1 destination, $2 floor, $3 now, $4 until, $5 limit, $6 token, and for `next` $7 the event to leave out.
#: During a lease that has run out an attempt may have been made, by whomever: it counts. Always a row: the
#: lowest that is pending.
_LEASE_OF: Final = """
WITH due AS (
  SELECT event_id FROM deliveries
  WHERE destination = $1 AND due_ms >= $2 AND leased_until_ms <= $3 AND {condition}
  ORDER BY {order} LIMIT $5 FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE deliveries
  SET leased_until_ms = $4, attempts = attempts + (leased_until_ms > 0)::integer,
    token = $6::bigint | (order_key IS NOT NULL)::integer
  WHERE event_id = ANY (ARRAY(SELECT event_id FROM due)) AND destination = $1
  RETURNING due_ms, place, event_id, attempts, token, since_ms, earlier, received_ms
)
SELECT lowest.due_ms, taken.*, {columns}
FROM (
  SELECT (
    SELECT due_ms FROM deliveries
    WHERE destination = $1 AND due_ms >= $2 ORDER BY due_ms, place LIMIT 1
  ) AS due_ms
) AS lowest
LEFT JOIN taken ON true
LEFT JOIN LATERAL (SELECT * FROM events WHERE id = taken.event_id LIMIT 1) AS events ON true
""".replace("{columns}", ", ".join(f"events.{column}" for column in CHECKED_COLUMNS.split(", ")))


def _lease_of(condition: str, order: str = "due_ms, place") -> str:
    return _LEASE_OF.replace("{condition}", condition).replace("{order}", order)


_LEASE: Final = _lease_of("due_ms <= $3")
_LEASES: Final[dict[Which, str]] = {
    "due": _LEASE,
    "new": _lease_of("due_ms <= $3 AND attempts = 0"),
    "newest": _lease_of("due_ms <= $3 AND attempts = 0", "due_ms DESC, place DESC"),
    "next": _lease_of(f"due_ms < {HELD} AND event_id IS DISTINCT FROM $7"),
}
#: The first of what is due by now and leased, and of what is due later.
_NEXT_DUE: Final = f"""
SELECT
  (SELECT min(greatest(due_ms, leased_until_ms)) FROM (
    SELECT due_ms, leased_until_ms FROM deliveries
    WHERE destination = $1 AND due_ms >= $2 AND due_ms <= $3 ORDER BY due_ms, place LIMIT 1000
  ) AS by_now),
  (SELECT due_ms FROM deliveries
    WHERE destination = $1 AND due_ms > $3 AND due_ms < {HELD} ORDER BY due_ms, place LIMIT 1)
"""  # noqa: S608 - of a constant
_BURY: Final = """
UPDATE deliveries SET status = 'dead', due_ms = NULL, leased_until_ms = 0, last_reason = 'corrupt',
  last_http_status = NULL, updated_ms = $3
WHERE destination = $1 AND event_id = ANY($2::text[]) AND token = ANY($4::bigint[]) AND leased_until_ms > 0
RETURNING order_key
"""


class Tokens:
    """Fencing tokens: of which process a lease is, and which of its leases."""

    def __init__(self, process: int) -> None:
        self._last = process << COUNTER_BITS

    def next(self) -> int:
        """Return a token that was not given out before, with room for `ORDERED`."""
        self._last += 2
        return self._last


class Look(NamedTuple):
    """What to look for."""

    destination: str
    floor: int
    #: In the database's time.
    now_ms: int
    until_ms: int
    limit: int
    which: Which = "due"
    #: With `next`: the event that is left out.
    other_than: str | None = None


class Floors:
    """Where to begin to look, by destination."""

    def __init__(self) -> None:
        self._floors: dict[str, int] = {}
        self._full_look_at: dict[str, float] = {}

    def of(self, destination: str) -> int:
        """Return below what nothing is pending."""
        return self._floors.get(destination, BOTTOM)

    def is_full_look_due(self, destination: str) -> bool:
        """Whether to begin at the bottom once more."""
        return time.monotonic() >= self._full_look_at.get(destination, 0.0)

    def put_off(self, destination: str) -> None:
        """Begin at the bottom later again; it takes too long now."""
        self._full_look_at[destination] = time.monotonic() + _FULL_LOOK * 10

    def found(self, look: Look, lowest: int | None, now_ms: int) -> None:
        """Learn what the lowest pending one was."""
        if look.floor == BOTTOM:
            self._full_look_at[look.destination] = time.monotonic() + _FULL_LOOK
        self._floors[look.destination] = min(HELD if lowest is None else lowest, now_ms - _MARGIN_MS)

    def forget(self, destination: str) -> None:
        """Begin at the bottom with the next look."""
        self._full_look_at.pop(destination, None)


class Leased(NamedTuple):
    """What was taken, and what can't be, ever."""

    deliveries: list[Delivery]
    #: Events' ids and the tokens of their leases.
    corrupt: list[tuple[str, int]]
    #: The `due_ms` of the lowest that is pending.
    lowest: int | None


async def lease(connection: Connection, look: Look, *, tokens: Tokens, clock: DatabaseClock) -> Leased:
    """Take what is due."""
    rows = await connection.fetch(
        _LEASES[look.which],
        look.destination,
        look.floor,
        min(look.now_ms, HELD - 1),
        look.until_ms,
        look.limit,
        tokens.next(),
        *([look.other_than] if look.which == "next" else []),
    )
    lowest = rows[0][0]
    found = [tuple(row)[1:] for row in rows if row[1] is not None]
    found.sort(key=_by_due, reverse=look.which == "newest")
    leased_until = clock.from_database(look.until_ms)
    deliveries, corrupt = [], []
    for row in found:
        delivery = _delivery(row, look.destination, leased_until)
        if delivery is None:
            corrupt.append((row[2], row[4]))
        else:
            deliveries.append(delivery)
    return Leased(deliveries, corrupt, lowest)


def _by_due(row: Sequence[Any]) -> tuple[int, int]:
    return row[0], row[1]


def _delivery(row: Sequence[Any], destination: str, leased_until: float) -> Delivery | None:
    _, _, event_id, attempts, token, since_ms, earlier, received_ms, *columns = row
    event = sound_event(columns)
    if event is None or event.id != event_id:
        return None
    since = (received_ms if since_ms is None else since_ms) / 1000
    return Delivery(event, destination, attempts, leased_until, since, earlier or 0, token)


async def bury(
    connection: Connection, destination: str, corrupt: Sequence[tuple[str, int]], *, now_ms: int
) -> set[bytes]:
    """Make dead what is damaged, inside the caller's transaction. Returns the order keys that are free."""
    ids, tokens = zip(*corrupt, strict=True)
    rows = await connection.fetch(_BURY, destination, ids, now_ms, tokens)
    return {key for (key,) in rows if key is not None}


async def next_due(connection: Connection, destination: str, *, floor: int, now_ms: int) -> int | None:
    """Return when the next one can be leased, in the database's time."""
    row = await connection.fetchrow(_NEXT_DUE, destination, floor, now_ms)
    return min((due for due in row or () if due is not None), default=None)
