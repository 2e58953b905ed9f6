"""PostgreSQL's plans for a gateway's statements: made for empty tables, and used for full ones."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from msgspec.structs import asdict

from conformance.builders import NOW
from gatehouse.store.postgres import accepting, attempts, leasing, listing, ordering, purging, replaying
from gatehouse.store.postgres.clock import DatabaseClock
from gatehouse.store.postgres.connection import HOT, SLOW
from gatehouse.store.records import DeliveryQuery, EventQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.store.postgres.connection import Connection
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


EVERY_FILTER = EventQuery(
    source="s",
    type="t*x",
    external_id="i" * 70,
    subject="s",
    account="a",
    contains=b"c",
    since=1.0,
    until=2.0,
    destination="d",
    status="delivered",
    reason="timeout",
    http_status=503,
)


async def statements_of(
    connection: Connection, query: EventQuery | DeliveryQuery
) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the statements, with their parameters, of one step of a query."""
    executed: list[tuple[str, tuple[Any, ...]]] = []

    def record(each: Any) -> None:
        executed.append((each.query, tuple(each.args)))

    with connection.query_logger(record):
        if isinstance(query, EventQuery):
            await listing.events(connection, query, limit=50, cursor=None)
        else:
            clock = DatabaseClock(lambda: NOW)
            await listing.deliveries(connection, query, limit=50, cursor=None, clock=clock)
            await listing.dead_groups(connection, query, cursor=None)
        # The driver calls the logger in the event loop's next turn.
        await asyncio.sleep(0)
    return executed


def each_query() -> Iterator[EventQuery | DeliveryQuery]:
    """Return queries with each filter alone, and with all of them, for each way to scan."""
    for kind in (EventQuery, DeliveryQuery):
        given = {
            name: value for name, value in asdict(EVERY_FILTER).items() if name in kind.__struct_fields__
        }
        yield kind()
        for name, value in given.items():
            yield kind(**{name: value})
        for status in ("pending", "delivered", "dead"):
            yield kind(**given | {"status": status})
            yield kind(status=status)


@pytest.mark.parametrize("state", ["empty", "full", "analyzed"])
async def test_every_statement_of_a_search_uses_an_index_or_reads_a_bounded_range(
    database: Database, postgres: PostgresServer, state: str
) -> None:
    if state != "empty":
        postgres.sql(FILL, database=database.name)
    if state == "analyzed":
        postgres.sql("VACUUM ANALYZE", database=database.name)
    settings = {**SLOW, "plan_cache_mode": "force_generic_plan"}
    connection = await asyncpg.connect(database.url, password=database.password, server_settings=settings)
    try:
        for query in each_query():
            for statement, arguments in await statements_of(connection, query):
                rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {statement}", *arguments)
                lines = [line for (line,) in rows]
                assert not any("Seq Scan" in line for line in lines), "\n".join(lines)
                for number, line in enumerate(lines):
                    if re.search("Index (Only )?Scan", line):
                        below, above = lines[number + 1 : number + 2], lines[:number]
                        has_condition = any("Index Cond" in each for each in below)
                        assert has_condition or any("Limit" in each for each in above), "\n".join(lines)
                if "GROUP BY" in statement:
                    # The dead deliveries of all destinations are in the order of events in one index only.
                    found = [line for line in lines if "destination = " in line or "_dead_by_event" in line]
                    assert found, "\n".join(lines)
    finally:
        await connection.close()


#: Conditions that match no event of `FILL`.
MISSES: tuple[dict[str, Any], ...] = (
    {"source": "nope"},
    {"type": "nope"},
    {"type": "nope.*"},
    {"external_id": "evt_x"},
    {"external_id": "evt_" + "x" * 100},
    {"subject": "nope"},
    {"account": "nope"},
)
FILL = """
INSERT INTO events (id, source, path, provider, external_id, type, time, received_ms, subject, account,
  headers, data_is_json, digest, checksum, body)
SELECT '01' || lpad(number::text, 24, '0'), 'shop', '', 'mando', ('evt_' || number)::bytea, 'sale.created',
  '', 1750000000000 + number, ('inv_' || number)::bytea, 'acct', '', 1, '', 0,
  convert_to(repeat('x', 500), 'UTF8')
FROM generate_series(1, 6000) AS number;
INSERT INTO deliveries (event_id, destination, status, attempts, received_ms, place, leased_until_ms, token,
  updated_ms)
SELECT id, 'billing', CASE WHEN received_ms % 10 = 0 THEN 'dead' ELSE 'delivered' END, 1, received_ms,
  0, 0, 0, 0
FROM events;
"""


@pytest.mark.parametrize("state", ["full", "analyzed"])
@pytest.mark.parametrize("conditions", MISSES, ids=str)
async def test_a_search_that_finds_nothing_reads_no_rows_of_events(
    database: Database, postgres: PostgresServer, conditions: dict[str, Any], state: str
) -> None:
    postgres.sql(FILL, database=database.name)
    if state == "analyzed":
        postgres.sql("VACUUM ANALYZE", database=database.name)
    connection = await asyncpg.connect(database.url, password=database.password, server_settings=dict(SLOW))
    try:
        *_, (statement, arguments) = await statements_of(connection, EventQuery(**conditions))
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", *arguments)
    finally:
        await connection.close()
    text = "\n".join(line for (line,) in rows)
    assert re.search(r"using events_search on events \(actual time=\S+ rows=0(\.00)? ", text), text
    assert "Rows Removed" not in text
