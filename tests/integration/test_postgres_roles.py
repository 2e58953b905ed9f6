"""The rights that docs/scaling.md gives to the gateways' role are sufficient and minimal."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from conformance.builders import NEVER, arrival, event, result
from gatehouse.store.base import Reply
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres.schema import describe, migrations
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from postgres_server import Database, PostgresServer

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
GRANTS = [
    statement
    for block in re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for statement in block.strip().splitlines()
    if statement.startswith(("GRANT", "ALTER ROLE gateways"))
]
PASSWORD = "a-password-of-the-gateways"


@pytest.fixture
async def settings(postgres: PostgresServer, empty_database: Database) -> AsyncIterator[PostgresSettings]:
    """Create the tables in a schema that another role owns. Returns the settings of the gateways."""
    name, (user, owner) = empty_database.name, ("gateways", postgres.user)
    postgres.sql(
        f"CREATE SCHEMA gatehouse AUTHORIZATION {owner}",
        f"ALTER ROLE {owner} IN DATABASE {name} SET search_path = gatehouse",
        f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'",
        database=name,
    )
    await (await PostgresStore.open(PostgresSettings(empty_database.url, empty_database.password))).close()
    postgres.sql("SET search_path = gatehouse", *GRANTS, database=name)
    yield PostgresSettings(empty_database.url.replace(f"//{postgres.user}@", f"//{user}@"), PASSWORD)
    postgres.drop_database(name)
    postgres.sql(f"DROP ROLE {user}")


def test_the_page_lists_rights_to_grant() -> None:
    assert len(GRANTS) == 5


async def test_a_role_with_these_rights_can_run_a_gateway(settings: PostgresSettings) -> None:
    store = await PostgresStore.open(settings)
    try:
        now = time.time()
        reply = Reply(200, "text/plain", b"fine")
        arrivals = [
            arrival(b"key", of=event(received=now), until=now + 60, order=b"shop"),
            arrival(of=event(received=now), until=now + 60, to=("ledger",)),
            arrival(of=event(received=now), until=now + 60, to=("archive",), reply=reply),
        ]
        receipts = await store.accept(arrivals, deadline=NEVER)
        (leased,) = await store.lease("ledger", now=time.time() + 1, until=time.time() + 30, limit=5)
        assert await store.record([result(leased, "dead", at=time.time())]) == [True]
        assert (await store.retry(DeliveryQuery(), now=time.time(), limit=5)).done
        await store.replay(receipts[2].event_id, ["billing"], now=time.time())
        await store.pause("billing", paused=True)
        assert await store.paused() == {"billing"}
        await store.pause("billing", paused=False)
        assert (await store.counts())["ledger"].pending == 1
        assert store.size() > 0
        await store.purge(now=now + 120, events_before=now + 120, dead_before=now + 120, limit=500)
        assert await store.event(receipts[2].event_id) is not None, "it was replayed, and is pending"
    finally:
        await store.close()


async def test_a_role_with_these_rights_cannot_change_tables(settings: PostgresSettings) -> None:
    connection = await asyncpg.connect(settings.url, password=settings.password)
    try:
        for statement in ("DROP TABLE events", "CREATE TABLE gatehouse.more ()", "TRUNCATE dedupe_keys"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_role_may_use_the_attempts_as_it_may_use_the_deliveries(
    postgres: PostgresServer, empty_database: Database
) -> None:
    before = [migration for migration in migrations() if "CREATE TABLE attempts" not in migration][:2]
    settings = PostgresSettings(empty_database.url, empty_database.password)
    owner = await asyncpg.connect(settings.url, password=settings.password)
    await owner.execute(";".join(before))
    await owner.execute("CREATE TABLE gatehouse_schema AS SELECT 2 AS version")
    postgres.sql("CREATE ROLE readers")
    await owner.execute("GRANT SELECT, INSERT ON deliveries TO readers")
    described = await describe(settings)
    assert (described.schema_version, described.rows["attempts"]) == (2, 0)

    await (await PostgresStore.open(settings)).close()

    rights = await owner.fetchrow(
        "SELECT has_table_privilege('readers', 'attempts', 'SELECT'),"
        " has_table_privilege('readers', 'attempts', 'INSERT'),"
        " has_table_privilege('readers', 'attempts', 'DELETE')"
    )
    await owner.close()
    postgres.drop_database(empty_database.name)
    postgres.sql("DROP ROLE readers")
    assert tuple(rights or ()) == (True, True, False)
