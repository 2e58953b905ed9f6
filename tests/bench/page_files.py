"""A store like that of a gateway with operators: dead letters, a paused destination, and an audit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from bench import flat_files
from bench.search_files import fill_sqlite

#: One delivery in so many is dead, and one event in so many waits for the paused destination.
_DEAD_EACH: Final = 40
_PENDING_EACH: Final = 20
_AUDIT: Final = 2000
_DEAD = """
UPDATE deliveries SET status = 'dead', last_reason = iif(event_seq % 3 = 0, 'timeout', 'server_error'),
  last_http_status = iif(event_seq % 3 = 0, NULL, 503)
WHERE event_seq % ? = 7 AND status = 'delivered'
"""
_ATTEMPTS = """
INSERT OR IGNORE INTO attempts (event_seq, destination, number, at_ms, reason, http_status)
SELECT event_seq, destination, 1, updated_ms, last_reason, last_http_status
FROM deliveries WHERE event_seq % ? = 7 AND status = 'dead'
"""
_PENDING = """
INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms, leased_until_ms,
  updated_ms)
SELECT seq, 'paused', 'pending', 0, received_ms, received_ms, 0, received_ms
FROM events WHERE seq > (SELECT max(seq) FROM events) * (1 - 1.0 / ?)
"""
_CHANGES = "INSERT INTO audit (at_ms, who, role, action, what, count) VALUES (?, ?, 'operate', ?, ?, ?)"


def fill(path: Path, events: int) -> None:
    """Make a file with this number of events."""
    fill_sqlite(path, events)
    now_ms = round(time.time() * 1000)
    changes = [
        (
            now_ms - (_AUDIT - number) * 60_000,
            ("ada", "grace")[number % 2],
            ("pause", "resume", "replay", "retry")[number % 4],
            json.dumps({"destination": "paused"}),
            number % 100,
        )
        for number in range(_AUDIT)
    ]
    with flat_files.filling(path) as connection:
        connection.execute("BEGIN")
        dead = connection.execute(_DEAD, (_DEAD_EACH,)).rowcount
        connection.execute(_ATTEMPTS, (_DEAD_EACH,))
        pending = connection.execute(_PENDING, (_PENDING_EACH,)).rowcount
        connection.execute("INSERT INTO paused_destinations (destination) VALUES ('paused')")
        connection.executemany(_CHANGES, changes)
        connection.execute("COMMIT")
    print(f"  {dead:,} of their deliveries are dead; {pending:,} wait for a paused destination", flush=True)
