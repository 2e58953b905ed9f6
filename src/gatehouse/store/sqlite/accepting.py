"""Accepts arrivals in SQLite: stores new events, and answers duplicates with the receipt of the first one."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, cast

from gatehouse.store.accepting import HELD, Batch, duplicate_receipt, keys_of, known_event, order_groups_of
from gatehouse.store.base import LEASE, Receipt
from gatehouse.store.legacy_keys import LegacyKeys
from gatehouse.store.rows import EVENT_COLUMNS, checksum, encode_text, event_row, milliseconds
from gatehouse.store.sqlite import ordering
from gatehouse.store.sqlite.rows import execute_rows, in_chunks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from gatehouse.store.accepting import Key, KnownEvent, OrderGroup
    from gatehouse.store.base import Arrival, Reply
    from gatehouse.store.rows import Row

#: CROSS JOIN makes the planner go key by key. It might walk the index on expires_ms otherwise.
_KNOWN_KEYS: Final = """
SELECT keys.source, keys.place, keys.key, keys.event_id, events.digest,
  (SELECT min(coalesce(since_ms, 0)) FROM deliveries WHERE event_seq = events.seq AND status = 'dead'),
  replies.status, replies.content_type, replies.body
FROM (VALUES {rows}) AS wanted
CROSS JOIN dedupe_keys AS keys
  ON keys.source = wanted.column1 AND keys.place = wanted.column2 AND keys.key = wanted.column3
LEFT JOIN events ON events.id = keys.event_id
LEFT JOIN replies ON replies.event_seq = events.seq
WHERE keys.expires_ms > ?
"""
_INSERT_EVENTS: Final = """
INSERT INTO events (seq, stored_ms, verified_by, digest, checksum, id, source, path, provider, external_id,
  type, time, received_ms, subject, account, content_type, headers, data_start, data_end, data_is_json,
  body, document)
VALUES {rows}
"""
#: REPLACE: the key may still be there, expired and not yet purged.
_INSERT_KEYS: Final = """
INSERT OR REPLACE INTO dedupe_keys (source, place, key, event_id, expires_ms) VALUES {rows}
"""
_INSERT_DELIVERIES: Final = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms)
VALUES {rows}
ON CONFLICT DO NOTHING
"""
#: Only deliveries with an order key need the column. Binding values is a large part of the work.
_INSERT_ORDERED: Final = _INSERT_DELIVERIES.replace("updated_ms)", "updated_ms, order_key)")
_INSERT_RELAYED: Final = _INSERT_DELIVERIES.replace(
    "updated_ms)", "updated_ms, last_reason, last_http_status)"
)
_INSERT_REPLIES: Final = "INSERT INTO replies (event_seq, status, content_type, body) VALUES {rows}"
#: Where in an event's columns the time received is.
_RECEIVED: Final = EVENT_COLUMNS.split(", ").index("received_ms")


class Acceptor:
    """Writes batches of arrivals. It is used only on the writer's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_seq = 0
        self.legacy_keys = LegacyKeys()

    def resume(self, connection: sqlite3.Connection) -> None:
        """Continue the numbers of events where the file ends."""
        (self._last_seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()

    def accept(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Receipt]:
        """Store what is new, inside the caller's transaction."""
        now_ms = milliseconds(self._clock())
        keys = keys_of(arrivals)
        known = _look_up(connection, list(chain.from_iterable(keys)), now_ms, self.legacy_keys)
        taken = ordering.taken(connection, order_groups_of(arrivals))
        batch = _Rows(known, taken, now_ms, self._last_seq)
        receipts = list(map(batch.add, arrivals, keys))
        batch.write(connection)
        # Also after a rollback the numbers are not used again: gaps do no harm.
        self._last_seq = batch.last_seq
        return receipts


def find_duplicate(
    connection: sqlite3.Connection, keys: Sequence[Key], now: float, legacy_keys: LegacyKeys
) -> Receipt | None:
    """Return the receipt of a duplicate if one of the keys is known."""
    return duplicate_receipt(keys, _look_up(connection, keys, milliseconds(now), legacy_keys))


def _look_up(
    connection: sqlite3.Connection, keys: Sequence[Key], now_ms: int, legacy_keys: LegacyKeys
) -> dict[Key, KnownEvent]:
    wanted = [*keys, *legacy_keys.of_all(keys)] if legacy_keys else keys
    rows = execute_rows(connection, _KNOWN_KEYS, wanted, now_ms)
    known = {cast("Key", row[:3]): known_event(*row[3:]) for row in rows} if rows else {}
    if legacy_keys and known:
        legacy_keys.add_known(keys, known)
    return known


class _Rows(Batch):
    """The rows of one batch."""

    def __init__(
        self, known: dict[Key, KnownEvent], taken: set[OrderGroup], now_ms: int, last_seq: int
    ) -> None:
        super().__init__(known, taken, now_ms)
        self._leased_until_ms = now_ms + milliseconds(LEASE)
        self.last_seq = last_seq
        self._events: list[Row] = []
        self._deliveries: list[Row] = []
        self._ordered: list[Row] = []
        self._relayed: list[Row] = []
        self._replies: list[Row] = []

    def _add_rows(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        event = arrival.event
        self.last_seq += 1
        columns = event_row(event)
        own = (self.last_seq, self._now_ms, arrival.verified_by, body_digest, checksum(columns))
        self._events.append(own + columns)
        if arrival.reply is not None:
            self._add_relayed(arrival, arrival.reply)
            return Receipt("accepted", event.id)
        received_ms = columns[_RECEIVED]
        leased_until_ms, held = 0, []
        for assignment in arrival.assignments:
            destination, order_key = assignment.destination, assignment.order_key
            token = self._leased_until_ms if assignment.leased else 0
            due_ms = token or received_ms
            if order_key is not None and self._must_wait((destination, order_key), event.id):
                token, due_ms = 0, HELD
                held.append(destination)
            row = (self.last_seq, destination, "pending", 0, received_ms, due_ms, token, self._now_ms)
            if order_key is None:
                self._deliveries.append(row)
            else:
                self._ordered.append((*row, order_key))
            if token:
                leased_until_ms = token
        return Receipt("accepted", event.id, leased_until_ms / 1000, tuple(held), token=leased_until_ms)

    def _add_relayed(self, arrival: Arrival, reply: Reply) -> None:
        seq, now_ms, received_ms = self.last_seq, self._now_ms, milliseconds(arrival.event.received)
        self._replies.append((seq, reply.status, encode_text(reply.content_type), reply.body))
        self._relayed += [
            (seq, assignment.destination, "delivered", 1, received_ms, None, 0, now_ms, "ok", reply.status)
            for assignment in arrival.assignments
        ]

    def write(self, connection: sqlite3.Connection) -> None:
        for events in in_chunks(self._events, long=2):
            execute_rows(connection, _INSERT_EVENTS, events)
        keys: list[Row] = [(*key, *recorded) for key, recorded in self._new_keys.items()]
        execute_rows(connection, _INSERT_KEYS, keys)
        execute_rows(connection, _INSERT_DELIVERIES, self._deliveries)
        execute_rows(connection, _INSERT_ORDERED, self._ordered)
        execute_rows(connection, _INSERT_RELAYED, self._relayed)
        for replies in in_chunks(self._replies, long=1):
            execute_rows(connection, _INSERT_REPLIES, replies)
