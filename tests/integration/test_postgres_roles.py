"""The rights that docs/scaling.md gives to the gateways' role are sufficient and minimal."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from conformance.builders import NEVER, arrival, event, result
from gatehouse.errors import StoreError
from gatehouse.store.base import Reply
from gatehouse.store.operations import Operation
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres.rights import NEEDED
from gatehouse.store.postgres.schema import describe, migrations
from gatehouse.store.records import AuditEntry, AuditQuery, DeliveryQuery, EventQuery

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
#: The page grants the same on all tables, and a gateway needs less.
REVOKES = [
    f"REVOKE {right} ON {table} FROM gateways"
    for table, rights in NEEDED.items()
    for right in {"SELECT", "INSERT", "UPDATE", "DELETE"} - set(rights)
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
    postgres.sql("SET search_path = gatehouse", *GRANTS, *REVOKES, database=name)
    yield PostgresSettings(empty_database.url.replace(f"//{postgres.user}@", f"//{user}@"), PASSWORD)
    postgres.drop_database(name)
    postgres.sql(f"DROP ROLE {user}")


def test_the_page_lists_rights_to_grant() -> None:
    assert len(GRANTS) == 6


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
        await store.use_legacy_places(dict)
        receipts = await store.accept(arrivals, deadline=NEVER)
        (leased,) = await store.lease("ledger", now=time.time() + 1, until=time.time() + 30, limit=5)
        assert await store.record([result(leased, "dead", reason="rejected", at=time.time())]) == [True]
        assert (await store.retry(DeliveryQuery(), now=time.time(), limit=5)).done
        await store.replay(receipts[2].event_id, ["billing"], now=time.time())
        operation = Operation(
            id="01", kind="replay", query=EventQuery(), to=None, rate=1.0, by="ci", started=now
        )
        assert await store.add_operation(operation)
        assert await store.take_operations("gateway-1", now=now, until=now + 15)
        assert await store.cancel_operation(operation.id, now=now)
        await store.forget_operations(before=now + 120)
        await store.add_audit(AuditEntry(at=now, who="ci", role="operate", action="pause", what={}, count=1))
        assert len((await store.audit(AuditQuery(), limit=5)).items) == 1
        await store.pause("billing", paused=True)
        assert await store.paused() == {"billing"}
        await store.pause("billing", paused=False)
        assert (await store.counts())["ledger"].pending == 1
        assert store.size() > 0
        await store.purge(now=now + 120, events_before=now + 120, dead_before=now + 120, limit=500)
        assert await store.event(receipts[2].event_id) is not None, "it was replayed, and is pending"
    finally:
        await store.close()


async def test_a_role_that_lacks_a_right_is_refused_at_the_start(
    postgres: PostgresServer, settings: PostgresSettings, empty_database: Database
) -> None:
    owner = await asyncpg.connect(empty_database.url, password=empty_database.password)
    tables = {
        name
        for (name,) in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'gatehouse'")
    }
    assert set(NEEDED) == tables - {"gatehouse_schema"}
    rights = {(table, right) for table, rights in NEEDED.items() for right in rights}

    for table, right in [*sorted(rights), ("SEQUENCE deliveries_order", "USAGE")]:
        await owner.execute(f"REVOKE {right} ON {table} FROM gateways")
        with pytest.raises(StoreError) as caught:
            await PostgresStore.open(settings)
        assert str(caught.value) == f"the role gateways lacks rights in the database: {right} on {table}"
        assert caught.value.hint is not None
        await owner.execute(caught.value.hint.partition(" run: ")[2])
    await owner.execute("REVOKE INSERT, DELETE ON attempts, events FROM gateways")
    with pytest.raises(StoreError, match=r": INSERT, DELETE on events; INSERT, DELETE on attempts$"):
        await PostgresStore.open(settings)
    await owner.close()


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
