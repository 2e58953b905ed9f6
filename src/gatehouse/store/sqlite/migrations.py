"""Brings a SQLite file to the schema that this version knows: numbered files in sql/, each applied once."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import cache
from importlib import resources

from gatehouse.errors import SchemaVersionError


@cache
def migrations() -> tuple[str, ...]:
    """Return the migrations in order: the first brings an empty file to schema version 1."""
    folder = resources.files("gatehouse.store.sqlite") / "sql"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return tuple(file.read_text(encoding="utf-8") for file in files)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each migration in a transaction of its own that also moves the version."""
    known = migrations()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(known):
        raise SchemaVersionError(
            f"the store has schema version {version}; this gatehouse knows versions up to {len(known)}",
            hint="run the newer gatehouse that wrote it, or restore a backup from before the upgrade",
        )
    for number in range(version + 1, len(known) + 1):
        _apply(connection, number, known[number - 1])


def _apply(connection: sqlite3.Connection, number: int, migration: str) -> None:
    script = f"BEGIN IMMEDIATE;\n{migration}\nPRAGMA user_version = {number};\nCOMMIT;"
    try:
        connection.executescript(script)
    except sqlite3.Error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
