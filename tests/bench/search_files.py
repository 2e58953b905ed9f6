"""Stores full of events to search: the schema of the gateway, filled in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from bench import flat_files, signed
from gatehouse.events.event import Event, new_id
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres import rows as postgres_rows
from gatehouse.store.rows import Row, checksum, digest, event_row, milliseconds
from postgres_server import Database

_DAYS: Final = 7
_AT_ONCE: Final = 10_000
_NAME: Final = "searched"
#: Each of these events was attempted twice.
_FAILED_EACH: Final = 1000

#: The filters, by how many events they find. What is rare is the oldest event.
FREQUENT: Final[tuple[dict[str, str], ...]] = (
    {},
    {"source": "stored"},
    {"type": "sale.*"},
    {"destination": "sent"},
    {"status": "dead"},
    {"reason": "ok"},
    {"http_status": "503"},
    {"contains": "Green tea"},
    {"since": "1d"},
)
RARE: Final[tuple[dict[str, str], ...]] = (
    {"source": "rare"},
    {"type": "rare.*"},
    {"external_id": f"evt_{_NAME}_00000000"},
    {"subject": f"sale_{_NAME}_00000000"},
    {"account": "acct_rare"},
    {"destination": "rare"},
    {"reason": "server_error", "source": "rare"},
    {"contains": f"evt_{_NAME}_00000000"},
)
NOWHERE: Final[tuple[dict[str, str], ...]] = (
    {"source": "none"},
    {"type": "none.*"},
    {"type": "*.none"},
    {"external_id": "none"},
    {"subject": "none"},
    {"account": "none"},
    {"destination": "none"},
    {"reason": "timeout"},
    {"http_status": "404"},
    {"source": "stored", "type": "sale.*", "account": "none"},
    {"contains": "no body contains this"},
)
_EVENTS = """
INSERT INTO events (seq, digest, checksum, id, source, path, provider, external_id, type, time,
  received_ms, subject, account, content_type, headers, data_start, data_end, data_is_json, body, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_DELIVERIES = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms, last_reason, last_http_status)
VALUES (?, ?, ?, ?, ?, NULL, 0, ?, ?, ?)
"""
_ATTEMPTS = """
INSERT INTO attempts (event_seq, destination, number, at_ms, reason, http_status) VALUES (?, ?, ?, ?, ?, ?)
"""


class _Row(NamedTuple):
    event: Event
    destination: str
    status: str
    reason: str
    http_status: int

    @property
    def delivery(self) -> tuple[Any, ...]:
        """The columns from the destination to `last_http_status`, except `due_ms`."""
        now_ms = milliseconds(self.event.received)
        return (self.destination, self.status, 1, now_ms, now_ms, self.reason, self.http_status)

    @property
    def attempt(self) -> tuple[Any, ...]:
        """The columns of an attempt from the destination to `http_status`."""
        return (self.destination, 1, milliseconds(self.event.received), self.reason, self.http_status)


def _rows(number: int, end: float) -> Iterator[_Row]:
    for each in range(number):
        received = end - _DAYS * 86400.0 * (number - each) / number
        is_rare, is_failed = each == 0, each % _FAILED_EACH == 0
        body = signed.body(_NAME, each, 1000)
        event = Event(
            id=new_id(received),
            source="rare" if is_rare else "stored",
            path="/webhooks/stored",
            provider="mando",
            external_id=signed.event_id(_NAME, each),
            type="rare.created" if is_rare else "sale.created",
            time="2026-01-15T10:30:00Z",
            received=received,
            subject=f"sale_{_NAME}_{each:08}",
            account="acct_rare" if is_rare else "acct_1",
            content_type="application/json",
            headers=(("host", "127.0.0.1"), ("content-type", "application/json")),
            body=body,
            data_span=(0, len(body)),
        )
        status, reason, http = ("dead", "server_error", 503) if is_failed else ("delivered", "ok", 200)
        yield _Row(event, "rare" if is_rare else "sent", status, reason, http)


def _batches(number: int) -> Iterator[list[_Row]]:
    some: list[_Row] = []
    for row in _rows(number, time.time()):
        some.append(row)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    yield some


def _event_row(seq: int, event: Event) -> Row:
    columns = event_row(event)
    return (seq, digest(event.body), checksum(columns), *columns)


def fill_sqlite(path: Path, number: int) -> None:
    """Make a file with this number of events and deliveries."""
    started, seq = time.monotonic(), 0
    with flat_files.filling(path) as connection:
        for batch in _batches(number):
            numbered = list(enumerate(batch, seq + 1))
            seq += len(batch)
            connection.execute("BEGIN")
            connection.executemany(
                _EVENTS,
                (
                    (each, digest(row.event.body), checksum(c := event_row(row.event)), *c)
                    for each, row in numbered
                ),
            )
            connection.executemany(_DELIVERIES, ((each, *row.delivery) for each, row in numbered))
            attempts = ((each, *row.attempt) for each, row in numbered if row.status == "dead")
            connection.executemany(_ATTEMPTS, attempts)
            connection.execute("COMMIT")
    print(f"  filled SQLite with {number:,} events ({time.monotonic() - started:.0f} s)", flush=True)


async def fill_postgres(database: Database, number: int) -> None:
    """Fill a database with this number of events and deliveries, as they are after an autovacuum."""
    started = time.monotonic()
    store = await PostgresStore.open(PostgresSettings(database.url, database.password))
    await store.close()
    connection = await asyncpg.connect(database.url, password=database.password)
    for batch in _batches(number):
        await connection.copy_records_to_table(
            "events",
            columns=postgres_rows.CHECKED_COLUMNS.split(", "),
            records=[postgres_rows.event_row(row.event, digest(row.event.body)) for row in batch],
        )
        await connection.copy_records_to_table(
            "deliveries",
            columns=[
                *("event_id", "destination", "status", "attempts", "received_ms", "updated_ms"),
                *("last_reason", "last_http_status", "place", "leased_until_ms", "token"),
            ],
            records=[(row.event.id, *row.delivery, 0, 0, 0) for row in batch],
        )
        await connection.copy_records_to_table(
            "attempts",
            columns=["event_id", "destination", "number", "at_ms", "reason", "http_status"],
            records=[
                (
                    row.event.id,
                    row.destination,
                    1,
                    milliseconds(row.event.received),
                    row.reason,
                    row.http_status,
                )
                for row in batch
                if row.status == "dead"
            ],
        )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    print(f"  filled PostgreSQL with {number:,} events ({time.monotonic() - started:.0f} s)", flush=True)
