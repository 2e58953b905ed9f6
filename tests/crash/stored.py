"""The content of the store at the end of a run, read from its file without Gatehouse."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from crash.numbered import identify


@dataclass(frozen=True)
class Stored:
    """The content of a store whose gateway has stopped."""

    #: The number of rows of each event.
    rows: Counter[str] = field(default_factory=Counter)
    #: The digests of the stored bodies.
    shas: dict[str, str] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()
    pending: int = 0
    #: Pending deliveries that are still marked as leased.
    leased: int = 0
    #: The findings of SQLite's checks. Empty if the file is intact.
    damage: tuple[str, ...] = ()


_DEAD = """
SELECT events.body FROM events JOIN deliveries ON deliveries.event_seq = events.seq WHERE status = 'dead'
"""


def read(path: Path) -> Stored:
    """Read a store. No process may have it open."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = [identify(body) for (body,) in connection.execute("SELECT body FROM events")]
        return Stored(
            rows=Counter(name for name, _ in found),
            shas=dict(found),
            dead=frozenset(identify(body)[0] for (body,) in connection.execute(_DEAD)),
            pending=_count(connection, "status = 'pending'"),
            leased=_count(connection, "status = 'pending' AND leased_until_ms > 0"),
            damage=damage(connection),
        )
    finally:
        connection.close()


def damage(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Run SQLite's checks."""
    integrity = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    references = [f"row without its event: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
    return (*integrity, *references)


def _count(connection: sqlite3.Connection, condition: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM deliveries WHERE {condition}").fetchone()  # noqa: S608
    return int(count)
