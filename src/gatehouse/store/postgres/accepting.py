"""Accepts arrivals in two round trips per batch: one looks up the keys, the other writes everything.

Other gateways accept at the same time. All of them insert keys in the same order, so that they can't
deadlock. If another gateway has stored a key of the batch between the two round trips, the second one fails
as a whole, because it writes a null into a column that allows none. The batch then starts again, and finds
the key.
"""

from __future__ import annotations

import time
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from gatehouse.errors import StoreUnavailableError
from gatehouse.store.accepting import (
    HELD,
    Batch,
    Key,
    duplicate_receipt,
    keys_of,
    known_event,
    order_groups_of,
)
from gatehouse.store.base import LEASE, Receipt, Reply
from gatehouse.store.postgres import ordering
from gatehouse.store.postgres.connection import confirm
from gatehouse.store.postgres.leasing import ORDERED_BIT
from gatehouse.store.postgres.rows import (
    CHECKED_COLUMNS,
    CHECKED_TYPES,
    arrays,
    columns,
    event_row,
    first_behind,
    short_key,
)
from gatehouse.store.rows import encode_text, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gatehouse.store.accepting import KnownEvent, OrderGroup
    from gatehouse.store.base import Arrival, Assignment
    from gatehouse.store.legacy_keys import LegacyKeys
    from gatehouse.store.postgres.clock import DatabaseClock
    from gatehouse.store.postgres.connection import Connection
    from gatehouse.store.postgres.legacy_keys import PostgresLegacyKeys

_LEASE_MS: Final = milliseconds(LEASE)
#: A try fails if another gateway was faster with a key of the batch. After a few tries, colliding batches
#: take turns, so that they collide only with batches on their first tries.
_CONCURRENT_TRIES: Final = 3
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
  WHERE event_id = keys.event_id AND status NOT IN ('pending', 'delivered', 'discarded')
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
#: The number of the first parameter that is an array.
_FIRST: Final = 5
#: The columns of new events, except the one that is the same for all of a batch.
_EVENT_COLUMNS: Final = f"verified_by, {CHECKED_COLUMNS}"
_EVENT_TYPES: Final = ("text", *CHECKED_TYPES)
_SEVERAL: Final = 2
#: The column by which the deliveries of a batch are sorted.
_RECEIVED: Final = itemgetter(2)
#: $1: now, $2: the token, $3: the deadline, $4: now, in the time of this gateway. After the deadline the
#: digest is null, which ends the transaction, even if the server was suspended in the meantime.
_WRITE: Final = (
    """
WITH new_events AS (
  INSERT INTO events (stored_ms, verified_by, digest, {but_digest})
  SELECT $4::bigint, verified_by,
    CASE WHEN clock_timestamp() <= to_timestamp($3) THEN digest END, {but_digest}
  FROM unnest({events}) AS new ({columns})
), {others}
INSERT INTO dedupe_keys AS keys (source, place, key, event_id, expires_ms)
SELECT * FROM unnest({keys})
ON CONFLICT (source, place, key) DO UPDATE
SET event_id = excluded.event_id, expires_ms = CASE WHEN keys.expires_ms <= $1 THEN excluded.expires_ms END
""".replace("{columns}", _EVENT_COLUMNS)
    .replace("{but_digest}", CHECKED_COLUMNS.partition(", ")[2])
    .replace("{events}", arrays(_FIRST, _EVENT_TYPES))
    .replace("{keys}", arrays(first_behind(_FIRST, _EVENT_TYPES), _KEY_TYPES))
)
_FIRST_OTHER: Final = first_behind(_FIRST, _EVENT_TYPES, _KEY_TYPES)
_WRITE_PLAIN: Final = _WRITE.replace(
    "{others}",
    """new_deliveries AS (
  INSERT INTO deliveries (event_id, destination, received_ms, leased_until_ms, place,
    status, attempts, due_ms, token, updated_ms)
  SELECT new.*, 'pending', 0, $1::bigint, $2::bigint, $1 FROM unnest({deliveries}) WITH ORDINALITY AS new
)
""".replace("{deliveries}", arrays(_FIRST_OTHER, _PLAIN_TYPES)),
)
#: For batches with order keys or relayed events.
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
    legacy_keys: PostgresLegacyKeys,
) -> list[Receipt]:
    """Store what is new, in one transaction."""
    keys = keys_of(arrivals)
    each_key = list(chain.from_iterable(keys))
    groups = order_groups_of(arrivals)
    for tries in range(_TRIES):
        if time.monotonic() > deadline:
            raise StoreUnavailableError("the store is too slow")
        now_ms = clock.now()
        exclusive = tries >= _CONCURRENT_TRIES
        if groups or exclusive:
            await ordering.begin(connection, groups, exclusive=exclusive)
        known = await _look_up(connection, each_key, now_ms, legacy_keys)
        taken = await ordering.taken(connection, groups) if groups else set()
        # The bit in the token makes `record` look for deliveries that are held behind these.
        batch = _Rows(known, taken, now_ms, clock, token | ORDERED_BIT if groups else token)
        if legacy_keys.must_be_stored:
            batch.legacy_keys_of = legacy_keys.of
        receipts = list(map(batch.add, arrivals, keys))
        try:
            await batch.write(connection, deadline)
        except asyncpg.NotNullViolationError as error:
            if groups or exclusive:
                await connection.execute("ROLLBACK")
            if error.column_name == "digest":
                # The server's clock says that it is too late. If ours does not, one of them was set.
                await clock.measure(connection)
        else:
            if groups or exclusive:
                await connection.execute("COMMIT")
            return receipts
    raise StoreUnavailableError("other gateways keep writing the same dedupe keys")


async def find_duplicate(
    connection: Connection, keys: Sequence[Key], now_ms: int, legacy_keys: LegacyKeys
) -> Receipt | None:
    """Return the receipt of a duplicate if one of the keys is known."""
    receipt = duplicate_receipt(keys, await _look_up(connection, keys, now_ms, legacy_keys))
    if receipt is not None:
        await confirm(connection)
    return receipt


async def _look_up(
    connection: Connection, keys: Sequence[Key], now_ms: int, legacy_keys: LegacyKeys
) -> dict[Key, KnownEvent]:
    if not keys:
        return {}
    wanted = [*keys, *legacy_keys.of_all(keys)] if legacy_keys else keys
    sources, places, values = zip(*wanted, strict=True)
    rows = await connection.fetch(_KNOWN_KEYS, sources, places, list(map(short_key, values)), now_ms)
    known = {wanted[number - 1]: known_event(*columns) for number, *columns in rows}
    if legacy_keys and known:
        legacy_keys.add_known(keys, known)
    return known


class _Rows(Batch):
    """The rows of one batch."""

    def __init__(
        self,
        known: dict[Key, KnownEvent],
        taken: set[OrderGroup],
        now_ms: int,
        clock: DatabaseClock,
        token: int,
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
        #: Returns the legacy keys to store with a key, while gateways of version 0.1 may still run.
        self.legacy_keys_of: Callable[[Key], list[Key]] | None = None

    def _expiry(self, until: float) -> int:
        return self._clock.to_database(until)

    def _add_rows(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        event = arrival.event
        self._events.append((arrival.verified_by, *event_row(event, body_digest)))
        if arrival.reply is not None:
            self._add_relayed(arrival, arrival.reply)
            return Receipt("accepted", event.id)
        received_ms = milliseconds(event.received)
        leased, held = False, []
        for assignment in _without_repetition(arrival.assignments):
            destination, order_key = assignment.destination, assignment.order_key
            until_ms = self._leased_until_ms if assignment.leased else 0
            due_ms = self._now_ms
            if order_key is not None and self._must_wait((destination, order_key), event.id):
                until_ms, due_ms = 0, HELD
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

    def _add_relayed(self, arrival: Arrival, reply: Reply) -> None:
        event, received_ms = arrival.event, milliseconds(arrival.event.received)
        self._replies.append((event.id, reply.status, encode_text(reply.content_type), reply.body))
        self._unusual += [
            (event.id, each.destination, received_ms, 0, "delivered", 1, None, "ok", reply.status, None)
            for each in _without_repetition(arrival.assignments)
        ]

    async def write(self, connection: Connection, deadline: float) -> None:
        """Insert everything with one statement. Without new events, confirm what the receipts report."""
        if not self._events:
            await confirm(connection)
            return
        # All gateways insert keys in the same order, so that they can't deadlock.
        new_keys = self._new_keys
        if self.legacy_keys_of is not None:
            new_keys = new_keys | {
                legacy: first for key, first in new_keys.items() for legacy in self.legacy_keys_of(key)
            }
        keys = [
            (source, place, short_key(key), *recorded)
            for (source, place, key), recorded in sorted(new_keys.items())
        ]
        self._plain.sort(key=_RECEIVED)
        rows = [*columns(self._events, _EVENT_TYPES), *columns(keys, _KEY_TYPES)]
        if self._unusual:
            plain = [(*row, "pending", 0, self._now_ms, None, None, None) for row in self._plain]
            rows += columns(plain + self._unusual, _UNUSUAL_TYPES)
            rows += columns(self._replies, _REPLY_TYPES)
        else:
            rows += columns(self._plain, _PLAIN_TYPES)
        statement = _WRITE_UNUSUAL if self._unusual else _WRITE_PLAIN
        by = self._clock.deadline(deadline)
        stored_ms = milliseconds(self._clock.from_database(self._now_ms))
        await connection.execute(statement, self._now_ms, self._token, by, stored_ms, *rows)


def _without_repetition(assignments: tuple[Assignment, ...]) -> Iterable[Assignment]:
    if len(assignments) < _SEVERAL:
        return assignments
    return {each.destination: each for each in reversed(assignments)}.values()
