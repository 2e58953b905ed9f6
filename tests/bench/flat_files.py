"""Builds in seconds the store files that days of traffic would produce, with the gateway's own schema.

The keys are random, like the ids of providers, so a new key can belong to any page of the tree. A few sorted
passes insert the keys of a file, each at random places among the existing keys. One sorted pass alone would
not be representative, because it leaves pages that do not split soon. After these passes, adding another 5 %
of keys splits as many pages as it does after random inserts. Rows in order of time (events and expiries) are
appended.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import signed
from gatehouse.events.event import Event, new_id
from gatehouse.store.rows import Row, checksum, digest, event_row, milliseconds
from gatehouse.store.sqlite.schema import migrate

DAY = 86400.0
#: A key has the form of the ids in bench/signed.py: "evt_", this many hexadecimal digits, "_" and a number.
KEY_BITS = 60
#: The share of the keys that each pass adds.
_PASSES = (0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
_EVENTS_AT_ONCE = 10_000
#: Fast instead of durable: after a failure, the file would be built again.
_PRAGMAS = (
    "auto_vacuum = INCREMENTAL",
    "journal_mode = OFF",
    "synchronous = OFF",
    "cache_size = -262144",
    "temp_store = MEMORY",
)
_KEYS = """
WITH RECURSIVE places (number, place) AS (
  VALUES (1, gap()) UNION ALL SELECT number + 1, place + gap() FROM places WHERE number < :number
)
INSERT INTO dedupe_keys (source, place, key, event_id, expires_ms)
SELECT 'stored', 0,
  CAST(printf('evt_%015x_%08d', place, abs(random() % 100000000)) AS BLOB),
  '01KF' || hex(randomblob(11)), :from_ms + abs(random() % :span_ms)
FROM places
"""
_EVENTS = """
INSERT INTO events (seq, digest, checksum, id, source, path, provider, external_id, type, time,
  received_ms, subject, account, content_type, headers, data_start, data_end, data_is_json, body, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DELIVERIES = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms)
VALUES (?1, 'app', 'pending', 0, ?2, ?2, 0, ?2)
"""
_SHAPE = """
SELECT sum(pagetype = 'internal'), sum(pagetype = 'leaf'), max((length(path) + 3) / 4),
  1 - 1.0 * sum(iif(pagetype = 'leaf', unused, 0)) / sum(iif(pagetype = 'leaf', pgsize, 0))
FROM dbstat WHERE name = 'dedupe_keys'
"""
_PLACEHOLDER = "0" * (KEY_BITS // 4)
_HEADERS = (("host", "127.0.0.1"), ("content-type", "application/json"), ("content-length", "800"))


class Span(NamedTuple):
    """A period of time (unix seconds)."""

    start: float
    end: float


class Shape(NamedTuple):
    """The tree of the dedupe keys."""

    inner_pages: int
    leaf_pages: int
    depth: int
    #: The fill factor of the leaves, 0 to 1.
    fill: float


@contextmanager
def filling(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store to fill it, creating it if needed. Its data is synced to disk at the end."""
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection):
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(connection)
        yield connection
    sync(path)


def add_keys(connection: sqlite3.Connection, number: int, expiry: Span) -> None:
    """Add keys that expire at random times within this span."""
    name, index = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%dedupe_keys (expires_ms)%'"
    ).fetchone()
    started = time.monotonic()
    connection.execute(f"DROP INDEX {name}")
    for share in _PASSES:
        _add_sorted(connection, round(number * share), expiry)
    _tell(f"{number:,} keys", started)
    connection.execute(index)
    _tell(f"{number:,} keys, index of expiries", started)


def _add_sorted(connection: sqlite3.Connection, number: int, expiry: Span) -> None:
    if not number:
        return
    # The gaps are distributed as between random numbers. The last place stays below the end.
    rate = (number + 4 * math.sqrt(number) + 4) / 2**KEY_BITS
    connection.create_function("gap", 0, lambda: int(random.expovariate(rate)))
    span = {"from_ms": milliseconds(expiry.start), "span_ms": milliseconds(expiry.end - expiry.start)}
    connection.execute(_KEYS, span | {"number": number})


def add_events(connection: sqlite3.Connection, number: int, received: Span, *, pending: bool = False) -> None:
    """Add events that were received within this span, each with a pending delivery or without a delivery."""
    started, step = time.monotonic(), (received.end - received.start) / max(1, number)
    (begin,) = connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM events").fetchone()
    for first in range(0, number, _EVENTS_AT_ONCE):
        count = min(_EVENTS_AT_ONCE, number - first)
        moments = [received.start + (first + each) * step for each in range(count)]
        events = [_event(moment) for moment in moments]
        rows = [_event_row(seq, event) for seq, event in enumerate(events, begin + first)]
        connection.execute("BEGIN")
        connection.executemany(_EVENTS, rows)
        if pending:
            due = [(seq, milliseconds(moment)) for seq, moment in enumerate(moments, begin + first)]
            connection.executemany(_DELIVERIES, due)
        connection.execute("COMMIT")
    _tell(f"{number:,} events", started)


def _event_row(seq: int, event: Event) -> Row:
    columns = event_row(event)
    return (seq, digest(event.body), checksum(columns), *columns)


def _event(received: float) -> Event:
    name = secrets.token_hex(KEY_BITS // 8 + 1)[: KEY_BITS // 4]
    body = _BODY.replace(_PLACEHOLDER.encode(), name.encode())
    return Event(
        id=new_id(received),
        source="sent",
        path="/webhooks/sent",
        provider="mando",
        external_id=f"evt_{name}_00000000",
        type="sale.created",
        time="2026-01-15T10:30:00Z",
        received=received,
        subject=f"sale_{name}_00000000",
        content_type="application/json",
        headers=_HEADERS,
        body=body,
        data_span=_DATA,
    )


def _data_span(body: bytes) -> tuple[int, int]:
    data = json.dumps(json.loads(body)["data"]).encode()
    start = body.find(data)
    return start, start + len(data)


_BODY = signed.body(_PLACEHOLDER, 0)
_DATA = _data_span(_BODY)


def pause(connection: sqlite3.Connection) -> None:
    """Pause the destination, so that the gateway starts with it paused."""
    connection.execute("INSERT INTO paused_destinations (destination) VALUES ('app')")


def shape(path: Path) -> Shape | None:
    """Return the shape of the whole tree of the keys, or None if this SQLite has no `dbstat`."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            return Shape(*connection.execute(_SHAPE).fetchone())
        except sqlite3.OperationalError:
            return None


def sync(path: Path) -> None:
    """Sync a file to disk, so that its pages in memory are clean."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def warm(path: Path) -> None:
    """Read a file, so that its pages are in the kernel's cache."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def drop(path: Path) -> None:
    """Ask the kernel to drop the cached pages of a file and of its `-wal` file. Most of them are dropped."""
    for each in (path, path.with_name(path.name + "-wal")):
        if each.exists():
            sync(each)
            with each.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _tell(what: str, started: float) -> None:
    print(f"  filled: {what} ({time.monotonic() - started:.0f} s)", flush=True)
