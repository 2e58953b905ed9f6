"""PostgreSQL's plans for a gateway's statements: made for empty tables, and used for full ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from gatehouse.store.postgres import accepting, attempts, leasing, ordering, purging, replaying
from gatehouse.store.postgres.connection import HOT

if TYPE_CHECKING:
    from postgres_server import Database, PostgresServer

STATEMENTS = {
    "known": accepting._KNOWN_KEYS,
    **{f"lease {which}": statement for which, statement in leasing._LEASES.items()},
    "next_due": leasing._NEXT_DUE,
    "bury": leasing._MARK_CORRUPT,
    "taken": ordering._TAKEN,
    "free": ordering._FREE,
    "free held": ordering._FREE_HELD,
    "record": leasing._RECORD,
    "record with attempts": leasing._RECORD_WITH_ATTEMPTS,
    "keep the last attempt": attempts.KEEP_LAST,
    "attempts": attempts._OF_EVENT,
    "release": leasing._RELEASE,
    "revive": replaying._REVIVE,
    "replay": replaying._REPLAY,
    "purge keys": purging._PURGE_KEYS,
    "purge events": purging._PURGE_EVENTS,
}
#: The index that finds held deliveries by their order key is one of two that can be used.
ORDERED = ("taken", "free")


async def plan(database: Database, statement: str) -> list[str]:
    """Return the lines of the generic plan."""
    settings = {**HOT, "plan_cache_mode": "force_generic_plan"}
    connection = await asyncpg.connect(database.url, password=database.password, server_settings=settings)
    prepared = await connection.prepare(statement)
    given = ", ".join("NULL" for _ in prepared.get_parameters())
    await connection.execute(f"PREPARE asked AS {statement}")
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE asked ({given})")
    await connection.close()
    return [line for (line,) in rows]


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_plan_for_empty_tables_reads_a_whole_table_or_index(
    database: Database, postgres: PostgresServer, name: str
) -> None:
    postgres.sql("VACUUM ANALYZE", database=database.name)
    lines = await plan(database, STATEMENTS[name])
    assert not any("Seq Scan" in line for line in lines)
    looks = [number for number, line in enumerate(lines) if "Index Scan" in line or "Index Only Scan" in line]
    assert looks or any("Tid Scan" in line for line in lines)
    for number in looks:
        assert "Index Cond" in lines[number + 1], "\n".join(lines)


@pytest.mark.parametrize("name", ORDERED)
async def test_held_deliveries_are_found_by_their_order_key(
    database: Database, postgres: PostgresServer, name: str
) -> None:
    """The plan does not scan all pending deliveries of the destination, or all that are held."""
    postgres.sql("VACUUM ANALYZE", database=database.name)
    text = "\n".join(await plan(database, STATEMENTS[name]))
    assert "deliveries_pending" not in text
    assert "Index Cond: ((destination = " in text
    assert "(order_key = " in text
    assert "Filter: (due_ms" not in text
