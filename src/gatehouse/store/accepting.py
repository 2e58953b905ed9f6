"""Accepting arrivals in SQLite: what is new is stored, what was seen before is told so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from gatehouse.store.base import LEASE, Receipt
from gatehouse.store.rows import digest, event_row, execute_rows, milliseconds

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from gatehouse.store.base import Arrival
    from gatehouse.store.rows import Row

#: The join goes key by key: left to itself the planner may walk the index on expires_ms instead.
_KNOWN_KEYS: Final = """
SELECT keys.source, keys.place, keys.key, keys.event_id, keys.expires_ms, events.digest
FROM (VALUES {rows}) AS wanted
CROSS JOIN dedupe_keys AS keys
  ON keys.source = wanted.column1 AND keys.place = wanted.column2 AND keys.key = wanted.column3
LEFT JOIN events ON events.id = keys.event_id
WHERE keys.expires_ms > ?
"""
_INSERT_EVENTS: Final = """
INSERT INTO events (seq, digest, id, source, path, provider, external_id, type, time, received_ms, subject,
  account, content_type, headers, data_start, data_end, data_is_json, body,
  document)
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
        batch = _Batch(_known_keys(connection, arrivals, now_ms), now_ms, self._last_seq)
        receipts = [batch.add(arrival) for arrival in arrivals]
        batch.write(connection)
        # A number is spent even if the transaction is rolled back: gaps do no harm.
        self._last_seq = batch.last_seq
        return receipts


def _keys(arrival: Arrival) -> Iterator[_Key]:
    for place, key in enumerate(arrival.keys):
        if key is not None:
            yield _Key(arrival.event.source, place, key)


def _known_keys(
    connection: sqlite3.Connection, arrivals: Sequence[Arrival], now_ms: int
) -> dict[_Key, _First]:
    wanted = dict.fromkeys(itertools.chain.from_iterable(map(_keys, arrivals)))
    rows = execute_rows(connection, _KNOWN_KEYS, list(wanted), now_ms)
    return {_Key(*cast("_Key", row[:3])): _First(*cast("_First", row[3:])) for row in rows}


class _Batch:
    """The rows of one batch, and the keys known so far: a later arrival can repeat an earlier one."""

    def __init__(self, known: dict[_Key, _First], now_ms: int, last_seq: int) -> None:
        self._known = known
        self._now_ms = now_ms
        self._leased_until_ms = now_ms + milliseconds(LEASE)
        self.last_seq = last_seq
        self._events: list[Row] = []
        # By key, because an expired one can be recorded twice in a batch.
        self._new_keys: dict[_Key, _First] = {}
        self._deliveries: list[Row] = []

    def add(self, arrival: Arrival) -> Receipt:
        keys = tuple(_keys(arrival))
        body_digest = digest(arrival.event.body)
        first = next((self._known[key] for key in keys if key in self._known), None)
        if first is not None:
            # Its unknown keys are not recorded: an unsigned one would let a replay block a genuine event.
            conflict = first.digest is not None and first.digest != body_digest
            return Receipt("conflict" if conflict else "duplicate", first.event_id)
        expires_ms = milliseconds(arrival.keep_keys_until)
        self._record(keys, _First(arrival.event.id, expires_ms, body_digest))
        return self._store(arrival, body_digest)

    def _record(self, keys: Sequence[_Key], first: _First) -> None:
        for key in keys:
            self._new_keys[key] = first
            if first.expires_ms > self._now_ms:
                self._known[key] = first

    def _store(self, arrival: Arrival, body_digest: bytes) -> Receipt:
        event = arrival.event
        self.last_seq += 1
        self._events.append((self.last_seq, body_digest, *event_row(event)))
        received_ms = milliseconds(event.received)
        leased_until_ms = 0
        for assignment in arrival.assignments:
            token = self._leased_until_ms if assignment.leased else 0
            due_ms = token or received_ms
            self._deliveries.append(
                (
                    self.last_seq,
                    assignment.destination,
                    "pending",
                    0,
                    received_ms,
                    due_ms,
                    token,
                    self._now_ms,
                )
            )
            leased_until_ms = max(leased_until_ms, token)
        return Receipt("accepted", event.id, leased_until_ms / 1000)

    def write(self, connection: sqlite3.Connection) -> None:
        execute_rows(connection, _INSERT_EVENTS, self._events)
        keys: list[Row] = [(*key, first.event_id, first.expires_ms) for key, first in self._new_keys.items()]
        execute_rows(connection, _INSERT_KEYS, keys)
        execute_rows(connection, _INSERT_DELIVERIES, self._deliveries)
