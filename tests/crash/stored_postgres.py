"""The content of PostgreSQL at the end of a run, read with plain SQL, without Gatehouse."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import asyncpg

from crash.numbered import identify
from crash.stored import Stored

if TYPE_CHECKING:
    from postgres_server import Database, PostgresServer

_DEAD = """
SELECT events.body FROM events JOIN deliveries ON deliveries.event_id = events.id WHERE status = 'dead'
"""
_PENDING = "SELECT count(*) FROM deliveries WHERE status = 'pending'"
_LEASED = f"{_PENDING} AND leased_until_ms > 0"

#: Queries that must find nothing: rows without their counterparts, and finished deliveries that are leased or
#: due.
_ORPHANS = {
    "delivery without its event": """
SELECT event_id FROM deliveries WHERE NOT EXISTS (SELECT FROM events WHERE id = event_id)""",
    "event without a delivery": """
SELECT id FROM events WHERE NOT EXISTS (SELECT FROM deliveries WHERE event_id = id)""",
    "event without a key": """
SELECT id FROM events WHERE NOT EXISTS (SELECT FROM dedupe_keys WHERE event_id = id)""",
    "key without its event": """
SELECT event_id FROM dedupe_keys WHERE NOT EXISTS (SELECT FROM events WHERE id = event_id)""",
    "finished, but leased or due": """
SELECT event_id FROM deliveries WHERE status <> 'pending' AND (leased_until_ms > 0 OR due_ms IS NOT NULL)""",
}
#: PostgreSQL's checks of each index against its table, and of each table.
_CHECKS = (
    "CREATE EXTENSION IF NOT EXISTS amcheck",
    """
SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = 'public'::regnamespace AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')""",
    """
SELECT relname || ': ' || (found).msg FROM (
  SELECT relname, verify_heapam(oid) AS found FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
) AS tables""",
)


async def connect(database: Database) -> asyncpg.Connection[asyncpg.Record]:
    """Open a connection to read the store."""
    return await asyncpg.connect(database.url, password=database.password, timeout=10.0)


async def pending(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Count the pending deliveries."""
    return int(await connection.fetchval(_PENDING))


async def read(server: PostgresServer, database: Database) -> Stored:
    """Read a store that no gateway uses any more."""
    connection = await connect(database)
    try:
        found = [identify(row[0]) for row in await connection.fetch("SELECT body FROM events")]
        orphans = [
            f"{what}: {row[0]}" for what, query in _ORPHANS.items() for row in await connection.fetch(query)
        ]
        return Stored(
            rows=Counter(name for name, _ in found),
            shas=dict(found),
            dead=frozenset(identify(row[0])[0] for row in await connection.fetch(_DEAD)),
            pending=await pending(connection),
            leased=int(await connection.fetchval(_LEASED)),
            damage=(*orphans, *damage(server, database)),
        )
    finally:
        await connection.close()


def damage(server: PostgresServer, database: Database) -> tuple[str, ...]:
    """Run PostgreSQL's checks."""
    try:
        said = server.sql(*_CHECKS, database=database.name)
    except AssertionError as error:
        return (str(error),)
    return tuple(line for line in said.splitlines() if line.strip())
