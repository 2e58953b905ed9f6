"""Accepting arrivals in SQLite: what is new is stored, what was seen before is told so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from gatehouse.store import ordering
from gatehouse.store.base import LEASE, Receipt, Reply
from gatehouse.store.rows import (
    checksum,
    decode_text,
    digest,
    encode_text,
    event_row,
    execute_rows,
    in_pieces,
    milliseconds,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatehouse.store.base import Arrival
    from gatehouse.store.ordering import Lock
    from gatehouse.store.rows import Row

#: The join goes key by key: left to itself the planner may walk the index on expires_ms instead.
_KNOWN_KEYS: Final = """
SELECT keys.source, keys.place, keys.key, keys.event_id, keys.expires_ms, events.digest,
  replies.status, replies.content_type, replies.body
FROM (VALUES {rows}) AS wanted
CROSS JOIN dedupe_keys AS keys
  ON keys.source = wanted.column1 AND keys.place = wanted.column2 AND keys.key = wanted.column3
LEFT JOIN events ON events.id = keys.event_id
LEFT JOIN replies ON replies.event_seq = events.seq
WHERE keys.expires_ms > ?
"""
_INSERT_EVENTS: Final = """
INSERT INTO events (seq, digest, checksum, id, source, path, provider, external_id, type, time,
  received_ms, subject, account, content_type, headers, data_start, data_end, data_is_json, body, document)
VALUES {rows}
"""
#: REPLACE: the key may be there still, expired and not yet purged.
_INSERT_KEYS: Final = """
INSERT OR REPLACE INTO dedupe_keys (source, place, key, event_id, expires_ms) VALUES {rows}
"""
_INSERT_DELIVERIES: Final = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms)
VALUES {rows}
ON CONFLICT DO NOTHING
"""
#: Those that are in an order. The others are spared the column: binding values is a good part of the work.
_INSERT_ORDERED: Final = _INSERT_DELIVERIES.replace("updated_ms)", "updated_ms, order_key)")
_INSERT_RELAYED: Final = _INSERT_DELIVERIES.replace(
    "updated_ms)", "updated_ms, last_reason, last_http_status)"
)
_INSERT_REPLIES: Final = "INSERT INTO replies (event_seq, status, content_type, body) VALUES {rows}"


class _Key(NamedTuple):
    """A dedupe key in its scope. Three values, never joined to one: "a" + "bc" is not "ab" + "c"."""

    source: str
    place: int
    key: bytes


class _First(NamedTuple):
    """The event that a known key belongs to."""

    event_id: str
    expires_ms: int
    #: None when the event has been purged.
    digest: bytes | None
    reply: Reply | None


class Acceptor:
    """Turns batches of arrivals into rows. It lives on the writer's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_seq = 0

    def resume(self, connection: sqlite3.Connection) -> None:
        """Continue to count where the file ends."""
        (self._last_seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()

    def accept(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Receipt]:
        """Store what is new, inside the caller's transaction."""
        now_ms = milliseconds(self._clock())
        keys = itertools.chain.from_iterable(map(_keys_of, arrivals))
        batch = _Batch(
            _look_up(connection, keys, now_ms), _taken(connection, arrivals), now_ms, self._last_seq
        )
        receipts = [batch.add(arrival) for arrival in arrivals]
        batch.write(connection)
        # A number is spent even if the transaction is rolled back: gaps do no harm.
        self._last_seq = batch.last_seq
        return receipts


def known(
    connection: sqlite3.Connection, source: str, keys: tuple[bytes | None, ...], now: float
) -> Receipt | None:
    """Return the receipt of a duplicate, if these keys make one."""
    wanted = list(_keys(source, keys))
    found = _look_up(connection, wanted, milliseconds(now))
    first = next((found[key] for key in wanted if key in found), None)
    return None if first is None else Receipt("duplicate", first.event_id, reply=first.reply)


def _keys(source: str, keys: tuple[bytes | None, ...]) -> Iterator[_Key]:
    for place, key in enumerate(keys):
        if key is not None:
            yield _Key(source, place, key)


def _keys_of(arrival: Arrival) -> Iterator[_Key]:
    return _keys(arrival.event.source, arrival.keys)


def _look_up(connection: sqlite3.Connection, keys: Iterable[_Key], now_ms: int) -> dict[_Key, _First]:
    rows = execute_rows(connection, _KNOWN_KEYS, list(dict.fromkeys(keys)), now_ms)
    return {_Key(*cast("_Key", row[:3])): _first(*row[3:]) for row in rows}


def _first(event_id: Any, expires_ms: Any, body_digest: Any, *reply: Any) -> _First:  # noqa: ANN401 - columns
    return _First(event_id, expires_ms, body_digest, _reply(*reply))


def _reply(status: int | None, content_type: bytes | None, body: bytes) -> Reply | None:
    return None if status is None else Reply(status, decode_text(content_type), body)


def _taken(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> dict[Lock, int]:
    """Return the order keys of a batch of which a delivery is pending; most batches have no order keys."""
    wanted = {
        (assignment.destination, assignment.order_key)
        for arrival in arrivals
        for assignment in arrival.assignments
        if assignment.order_key is not None
    }
    return dict.fromkeys(ordering.taken(connection, wanted), 0)


class _Batch:
    """The rows of one batch, and the keys known so far: an arrival can repeat or follow an earlier one."""

    def __init__(self, known: dict[_Key, _First], taken: dict[Lock, int], now_ms: int, last_seq: int) -> None:
        self._known = known
        #: By which event of this batch an order key is taken; 0: by one of before.
        self._taken = taken
        self._now_ms = now_ms
        self._leased_until_ms = now_ms + milliseconds(LEASE)
        self.last_seq = last_seq
        self._events: list[Row] = []
        # By key, because an expired one can be recorded twice in a batch.
        self._new_keys: dict[_Key, _First] = {}
        self._deliveries: list[Row] = []
        self._ordered: list[Row] = []
        self._relayed: list[Row] = []
        self._replies: list[Row] = []

    def add(self, arrival: Arrival) -> Receipt:
        keys = tuple(_keys_of(arrival))
        body_digest = digest(arrival.event.body)
        first = next((self._known[key] for key in keys if key in self._known), None)
        if first is not None:
            # Its unknown keys are not recorded: an unsigned one would let a replay block a genuine event.
            conflict = first.digest is not None and first.digest != body_digest
            return Receipt("conflict" if conflict else "duplicate", first.event_id, reply=first.reply)
        expires_ms = milliseconds(arrival.keep_keys_until)
        self._record(keys, _First(arrival.event.id, expires_ms, body_digest, arrival.reply))
        return self._store(arrival, body_digest)

    def _record(self, keys: Sequence[_Key], first: _First) -> None:
        for key in keys:
            self._new_keys[key] = first
            if first.expires_ms > self._now_ms:
                self._known[key] = first

    def _store(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        event = arrival.event
        self.last_seq += 1
        columns = event_row(event)
        self._events.append((self.last_seq, body_digest, checksum(columns), *columns))
        if arrival.reply is not None:
            self._store_relayed(arrival, arrival.reply)
            return Receipt("accepted", event.id)
        received_ms = milliseconds(event.received)
        leased_until_ms, held = 0, []
        for assignment in arrival.assignments:
            destination, order_key = assignment.destination, assignment.order_key
            token = self._leased_until_ms if assignment.leased else 0
            due_ms = token or received_ms
            if order_key is not None and self._must_wait((destination, order_key)):
                token, due_ms = 0, ordering.HELD
                held.append(destination)
            row = (self.last_seq, destination, "pending", 0, received_ms, due_ms, token, self._now_ms)
            if order_key is None:
                self._deliveries.append(row)
            else:
                self._ordered.append((*row, order_key))
            leased_until_ms = max(leased_until_ms, token)
        return Receipt("accepted", event.id, leased_until_ms / 1000, tuple(held))

    def _must_wait(self, lock: Lock) -> bool:
        """Tell whether another event goes first; this one, named twice, is not another."""
        return self._taken.setdefault(lock, self.last_seq) != self.last_seq

    def _store_relayed(self, arrival: Arrival, reply: Reply) -> None:
        seq, now_ms, received_ms = self.last_seq, self._now_ms, milliseconds(arrival.event.received)
        self._replies.append((seq, reply.status, encode_text(reply.content_type), reply.body))
        self._relayed += [
            (seq, assignment.destination, "delivered", 1, received_ms, None, 0, now_ms, "ok", reply.status)
            for assignment in arrival.assignments
        ]

    def write(self, connection: sqlite3.Connection) -> None:
        for events in in_pieces(self._events, long=2):
            execute_rows(connection, _INSERT_EVENTS, events)
        keys: list[Row] = [(*key, first.event_id, first.expires_ms) for key, first in self._new_keys.items()]
        execute_rows(connection, _INSERT_KEYS, keys)
        execute_rows(connection, _INSERT_DELIVERIES, self._deliveries)
        execute_rows(connection, _INSERT_ORDERED, self._ordered)
        execute_rows(connection, _INSERT_RELAYED, self._relayed)
        for replies in in_pieces(self._replies, long=1):
            execute_rows(connection, _INSERT_REPLIES, replies)
