"""Accepting arrivals: two round trips for a batch, one that looks up its keys and one that writes it all.

Other gateways accept at the same time. Keys are inserted in the same order by all of them, so that none waits
for another in a circle. One that another gateway recorded in between makes the statement fail as a whole, by
a null where none may be: the batch begins again, and finds the key.
"""

from __future__ import annotations

import time
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.base import LEASE, Receipt, Reply
from gatehouse.store.deciding import Batch, First, Key, duplicate_of, keys_of, locks_of
from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.confirming import confirm
from gatehouse.store.postgres.leasing import ORDERED
from gatehouse.store.postgres.rows import CHECKED_COLUMNS, CHECKED_TYPES, event_row, short_key
from gatehouse.store.postgres.statements import arrays, columns, first_behind
from gatehouse.store.rows import decode_text, encode_text, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gatehouse.store.base import Arrival, Assignment
    from gatehouse.store.deciding import Lock
    from gatehouse.store.earlier import EarlierKeys
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connecting import Connection
    from gatehouse.store.postgres.placing import EarlierKeysHere

_LEASE_MS: Final = milliseconds(LEASE)
#: Each time another gateway was faster with a key of the batch. After a few times, of those that collide one
#: batch at a time is tried; what it collides with then is on its first tries.
_TRIES_AT_ONCE: Final = 3
_TRIES: Final = 30

_KNOWN_KEYS: Final = """
SELECT wanted.number, keys.event_id, events.digest, dead.asked_ms,
  replies.status, replies.content_type, replies.body
FROM unnest($1::text[], $2::smallint[], $3::bytea[]) WITH ORDINALITY AS wanted (source, place, key, number)
CROSS JOIN LATERAL (
  SELECT * FROM dedupe_keys
  WHERE source = wanted.source AND place = wanted.place AND key = wanted.key LIMIT 1
) AS keys
LEFT JOIN LATERAL (SELECT digest FROM events WHERE id = keys.event_id LIMIT 1) AS events ON true
LEFT JOIN LATERAL (SELECT * FROM replies WHERE event_id = keys.event_id LIMIT 1) AS replies ON true
LEFT JOIN LATERAL (
  SELECT min(coalesce(since_ms, 0)) AS asked_ms FROM deliveries
  WHERE event_id = keys.event_id AND status NOT IN ('pending', 'delivered')
) AS dead ON true
WHERE keys.expires_ms > $4
"""
_KEY_TYPES: Final = ("text", "smallint", "bytea", "text", "bigint")
_PLAIN_TYPES: Final = ("text", "text", "bigint", "bigint")
_UNUSUAL_TYPES: Final = (
    *("text", "text", "bigint", "bigint", "text", "integer", "bigint", "text", "integer"),
    "bytea",
)
_REPLY_TYPES: Final = ("text", "integer", "bytea", "bytea")
_FIRST: Final = 4
_SEVERAL: Final = 2
#: Of a row: what it is due by among those of its batch.
_RECEIVED: Final = itemgetter(2)
#: $1: now, $2: the token, $3: the deadline. A digest that is null past the deadline ends the transaction,
#: also when it was the server that stood still.
_WRITE: Final = (
    """
WITH new_events AS (
  INSERT INTO events ({columns})
  SELECT CASE WHEN clock_timestamp() <= to_timestamp($3) THEN digest END, {but_digest}
  FROM unnest({events}) AS new ({columns})
), {others}
INSERT INTO dedupe_keys AS keys (source, place, key, event_id, expires_ms)
SELECT * FROM unnest({keys})
ON CONFLICT (source, place, key) DO UPDATE
SET event_id = excluded.event_id, expires_ms = CASE WHEN keys.expires_ms <= $1 THEN excluded.expires_ms END
""".replace("{columns}", CHECKED_COLUMNS)
    .replace("{but_digest}", CHECKED_COLUMNS.partition(", ")[2])
    .replace("{events}", arrays(_FIRST, CHECKED_TYPES))
    .replace("{keys}", arrays(first_behind(_FIRST, CHECKED_TYPES), _KEY_TYPES))
)
_FIRST_OTHER: Final = first_behind(_FIRST, CHECKED_TYPES, _KEY_TYPES)
_WRITE_PLAIN: Final = _WRITE.replace(
    "{others}",
    """new_deliveries AS (
  INSERT INTO deliveries (event_id, destination, received_ms, leased_until_ms, place,
    status, attempts, due_ms, token, updated_ms)
  SELECT new.*, 'pending', 0, $1::bigint, $2::bigint, $1 FROM unnest({deliveries}) WITH ORDINALITY AS new
)
""".replace("{deliveries}", arrays(_FIRST_OTHER, _PLAIN_TYPES)),
)
#: With order keys, or relayed events.
_WRITE_UNUSUAL: Final = _WRITE.replace(
    "{others}",
    """new_deliveries AS (
  INSERT INTO deliveries (event_id, destination, received_ms, leased_until_ms, status, attempts, due_ms,
    last_reason, last_http_status, order_key, place, order_seq, token, updated_ms)
  SELECT new.*, CASE WHEN order_key IS NOT NULL THEN nextval('deliveries_order') END, $2::bigint, $1::bigint
  FROM unnest({deliveries}) WITH ORDINALITY AS new (event_id, destination, received_ms, leased_until_ms,
    status, attempts, due_ms, last_reason, last_http_status, order_key, number)
), new_replies AS (
  INSERT INTO replies (event_id, status, content_type, body) SELECT * FROM unnest({replies})
)
""".replace("{deliveries}", arrays(_FIRST_OTHER, _UNUSUAL_TYPES)).replace(
        "{replies}", arrays(first_behind(_FIRST_OTHER, _UNUSUAL_TYPES), _REPLY_TYPES)
    ),
)


async def accept(
    connection: Connection,
    arrivals: Sequence[Arrival],
    *,
    clock: DatabaseClock,
    token: int,
    deadline: float,
    earlier: EarlierKeysHere,
) -> list[Receipt]:
    """Store what is new, in one transaction."""
    keys = keys_of(arrivals)
    each_key = list(chain.from_iterable(keys))
    locks = locks_of(arrivals)
    for tries in range(_TRIES):
        if time.monotonic() > deadline:
            raise StoreUnavailableError("the store is too slow")
        now_ms = clock.now()
        alone = tries >= _TRIES_AT_ONCE
        if locks or alone:
            await ordering.begin(connection, locks, alone=alone)
        known = await _look_up(connection, each_key, now_ms, earlier)
        taken = await ordering.taken(connection, locks) if locks else set()
        # What is recorded of these takes the way of those with order keys.
        batch = _Rows(known, taken, now_ms, clock, token | ORDERED if locks else token)
        if earlier.is_recorded:
            batch.also = earlier.of
        receipts = list(map(batch.add, arrivals, keys))
        try:
            await batch.write(connection, deadline)
        except asyncpg.NotNullViolationError as error:
            if locks or alone:
                await connection.execute("ROLLBACK")
            if error.column_name == "digest":
                # Its clock says that it is too late. If ours does not, one of them was set.
                await clock.measure(connection)
        else:
            if locks or alone:
                await connection.execute("COMMIT")
            return receipts
    raise StoreUnavailableError("others write the same keys all the time")


async def known(
    connection: Connection, keys: Sequence[Key], now_ms: int, earlier: EarlierKeys
) -> Receipt | None:
    """Return the receipt of a duplicate, if these keys make one."""
    receipt = duplicate_of(keys, await _look_up(connection, keys, now_ms, earlier))
    if receipt is not None:
        await confirm(connection)
    return receipt


async def _look_up(
    connection: Connection, keys: Sequence[Key], now_ms: int, earlier: EarlierKeys
) -> dict[Key, First]:
    if not keys:
        return {}
    wanted = [*keys, *earlier.of_all(keys)] if earlier else keys
    sources, places, values = zip(*wanted, strict=True)
    rows = await connection.fetch(_KNOWN_KEYS, sources, places, list(map(short_key, values)), now_ms)
    known = {wanted[number - 1]: _first(*first) for number, *first in rows}
    if earlier and known:
        earlier.recognise(keys, known)
    return known


def _first(event_id: str, body_digest: bytes | None, dead_ms: int | None, *reply: Any) -> First:  # noqa: ANN401
    return First(event_id, body_digest, _reply(*reply), dead_ms)


def _reply(status: int | None, content_type: bytes | None, body: bytes) -> Reply | None:
    return None if status is None else Reply(status, decode_text(content_type), body)


class _Rows(Batch):
    """The rows of one batch."""

    def __init__(
        self, known: dict[Key, First], taken: set[Lock], now_ms: int, clock: DatabaseClock, token: int
    ) -> None:
        super().__init__(known, taken, now_ms)
        self._clock = clock
        self._token = token
        self._leased_until_ms = now_ms + _LEASE_MS
        self._leased_until = clock.from_database(self._leased_until_ms)
        self._events: list[tuple[Any, ...]] = []
        self._plain: list[tuple[Any, ...]] = []
        self._unusual: list[tuple[Any, ...]] = []
        self._replies: list[tuple[Any, ...]] = []
        #: What else to record a key as: for gateways of version 0.1, while they may run.
        self.also: Callable[[Key], list[Key]] | None = None

    def _expiry(self, until: float) -> int:
        return self._clock.to_database(until)

    def _store(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        event = arrival.event
        self._events.append(event_row(event, body_digest))
        if arrival.reply is not None:
            self._store_relayed(arrival, arrival.reply)
            return Receipt("accepted", event.id)
        received_ms = milliseconds(event.received)
        leased, held = False, []
        for assignment in _each_once(arrival.assignments):
            destination, order_key = assignment.destination, assignment.order_key
            until_ms = self._leased_until_ms if assignment.leased else 0
            due_ms = self._now_ms
            if order_key is not None and self._must_wait((destination, order_key), event.id):
                until_ms, due_ms = 0, ordering.HELD
                held.append(destination)
            row = (event.id, destination, received_ms, until_ms)
            if order_key is None:
                self._plain.append(row)
            else:
                self._unusual.append((*row, "pending", 0, due_ms, None, None, short_key(order_key)))
            leased = leased or until_ms > 0
        if not leased:
            return Receipt("accepted", event.id, 0.0, tuple(held))
        return Receipt("accepted", event.id, self._leased_until, tuple(held), token=self._token)

    def _store_relayed(self, arrival: Arrival, reply: Reply) -> None:
        event, received_ms = arrival.event, milliseconds(arrival.event.received)
        self._replies.append((event.id, reply.status, encode_text(reply.content_type), reply.body))
        self._unusual += [
            (event.id, each.destination, received_ms, 0, "delivered", 1, None, "ok", reply.status, None)
            for each in _each_once(arrival.assignments)
        ]

    async def write(self, connection: Connection, deadline: float) -> None:
        """Insert it all, in one statement; or see to it that what is told of other events lasts."""
        if not self._events:
            await confirm(connection)
            return
        # In one order, whoever writes: so that none waits for another in a circle.
        new_keys = self._new_keys
        if self.also is not None:
            new_keys = new_keys | {also: first for key, first in new_keys.items() for also in self.also(key)}
        keys = [
            (source, place, short_key(key), *recorded)
            for (source, place, key), recorded in sorted(new_keys.items())
        ]
        self._plain.sort(key=_RECEIVED)
        rows = [*columns(self._events, CHECKED_TYPES), *columns(keys, _KEY_TYPES)]
        if self._unusual:
            plain = [(*row, "pending", 0, self._now_ms, None, None, None) for row in self._plain]
            rows += columns(plain + self._unusual, _UNUSUAL_TYPES)
            rows += columns(self._replies, _REPLY_TYPES)
        else:
            rows += columns(self._plain, _PLAIN_TYPES)
        statement = _WRITE_UNUSUAL if self._unusual else _WRITE_PLAIN
        by = self._clock.deadline(deadline)
        await connection.execute(statement, self._now_ms, self._token, by, *rows)


def _each_once(assignments: tuple[Assignment, ...]) -> Iterable[Assignment]:
    if len(assignments) < _SEVERAL:
        return assignments
    return {each.destination: each for each in reversed(assignments)}.values()
