"""D-02 during a migration: a file of the first schema, for a gateway that is killed while it migrates."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path

from crash.ledger import Answer
from crash.numbered import make
from gatehouse.events.event import new_id
from gatehouse.store.sqlite.schema import migrations

_INSERT_EVENT = """
INSERT INTO events (seq, id, source, path, provider, external_id, type, time, received_ms, headers,
  data_is_json, data_start, data_end, digest, body)
VALUES (?, ?, 'mando', '/webhooks/mando', 'mando', ?, 'sale.created', '2026-01-15T10:30:00Z', ?, '[]',
  1, ?, ?, ?, ?)
"""
_INSERT_DELIVERY = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms)
VALUES (?, 'app', 'pending', 0, ?, ?, 0, ?)
"""


def write_first_schema(database: Path, run: str, count: int) -> list[Answer]:
    """Write a file with the first schema of version 0.1.0 and pending deliveries. Return its events."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"{migrations()[0]}; PRAGMA user_version = 1;")
    now = time.time()
    answers = [_insert(connection, run, seq, now) for seq in range(1, count + 1)]
    connection.commit()
    connection.close()
    return answers


def _insert(connection: sqlite3.Connection, run: str, seq: int, now: float) -> Answer:
    # Odd numbers are events of Mando, whose bodies end with their data.
    event, milliseconds = make(run, 2 * seq - 1), int(now * 1000)
    data = (event.body.index(b'{"id"', 1), len(event.body) - 1)
    digest = hashlib.sha256(event.body).digest()
    connection.execute(_INSERT_EVENT, (seq, new_id(now), event.id, milliseconds, *data, digest, event.body))
    connection.execute(_INSERT_DELIVERY, (seq, *[milliseconds] * 3))
    return Answer(event.id, event.sha, 200, "", now, now, 0)


def statements(*, since: int) -> int:
    """Count the SQL statements that migrate a file from this schema version to the current one."""
    texts = migrations()[since:]
    # BEGIN, PRAGMA user_version and COMMIT for each migration, and the query of the version.
    return 1 + sum(3 + len(_split(text)) for text in texts)


def _split(text: str) -> list[str]:
    found, statement = [], ""
    for line in text.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found
