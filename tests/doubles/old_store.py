"""Writes stores as version 0.1 did, with the place of a dedupe key in `dedupe.by` instead of its scope."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from gatehouse.store.postgres import schema as postgres
from gatehouse.store.sqlite import schema as sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from postgres_server import Database

#: The schema versions of 0.1.
SQLITE, POSTGRES = 4, 1
BODY = b'{"id":"e1"}'
STATUSES = ("pending", "delivered", "dead")


class OldKey(NamedTuple):
    """A row of `dedupe_keys`."""

    place: int
    key: bytes
    event_id: str
    expires_ms: int


def write_sqlite(path: Path, keys: Sequence[OldKey], *, received_ms: int, source: str = "mandato") -> None:
    """Write a file with these keys and their events. Each event has one delivery with each status."""
    connection = sqlite3.connect(path, isolation_level=None)
    for migration in sqlite.migrations()[:SQLITE]:
        connection.executescript(migration)
    connection.execute(f"PRAGMA user_version = {SQLITE}")
    connection.execute("PRAGMA journal_mode = wal")
    for seq, event_id in enumerate(dict.fromkeys(key.event_id for key in keys), start=1):
        connection.execute(
            "INSERT INTO events (seq, id, source, path, provider, external_id, type, time, received_ms,"
            " headers, data_is_json, digest, body) VALUES (?, ?, ?, '/w', 'mandato', 'evt',"
            " 'invoice.paid', '2025-06-15T15:06:40Z', ?, '[]', 1, ?, ?)",
            (seq, event_id, source, received_ms, hashlib.sha256(BODY).digest(), BODY),
        )
        connection.executemany(
            "INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms,"
            " leased_until_ms, updated_ms) VALUES (?, ?, ?, 0, ?, ?, 0, 0)",
            [(seq, f"to-{s}", s, received_ms, received_ms if s == "pending" else None) for s in STATUSES],
        )
    connection.executemany(
        "INSERT INTO dedupe_keys (source, place, key, event_id, expires_ms) VALUES (?, ?, ?, ?, ?)",
        [(source, *key) for key in keys],
    )
    connection.close()


async def write_postgres(
    database: Database, keys: Sequence[OldKey], *, received_ms: int, source: str = "mandato"
) -> None:
    """Write the same data to an empty database."""
    connection = await asyncpg.connect(database.url, password=database.password)
    await connection.execute("CREATE TABLE gatehouse_schema (version integer NOT NULL)")
    await connection.execute("INSERT INTO gatehouse_schema VALUES (1)")
    for migration in postgres.migrations()[:POSTGRES]:
        await connection.execute(migration)
    for event_id in dict.fromkeys(key.event_id for key in keys):
        await connection.execute(
            "INSERT INTO events (id, source, path, provider, external_id, type, time, received_ms, headers,"
            " data_is_json, digest, checksum, body) VALUES ($1, $2, '/w', 'mandato', 'evt', 'invoice.paid',"
            " '2025-06-15T15:06:40Z', $3, '[]', 1, $4, 0, $5)",
            *(event_id, source, received_ms, hashlib.sha256(BODY).digest(), BODY),
        )
        for s in STATUSES:
            await connection.execute(
                "INSERT INTO deliveries (event_id, destination, status, attempts, received_ms, due_ms, place,"
                " leased_until_ms, token, updated_ms) VALUES ($1, $2, $3, 0, $4, $5, 1, 0, 0, 0)",
                *(event_id, f"to-{s}", s, received_ms, received_ms if s == "pending" else None),
            )
    await connection.executemany(
        "INSERT INTO dedupe_keys (source, place, key, event_id, expires_ms) VALUES ($1, $2, $3, $4, $5)",
        [(source, *key) for key in keys],
    )
    await connection.close()
