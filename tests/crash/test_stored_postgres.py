"""The checks of PostgreSQL at the end of a run find incomplete rows and damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, arrival
from crash import stored_postgres
from gatehouse.store.postgres import PostgresStore
from gatehouse.store.postgres.connection import PostgresSettings

if TYPE_CHECKING:
    from postgres_server import Database, PostgresServer


async def stored_one(database: Database) -> None:
    """Store one event, pending and not leased."""
    settings = PostgresSettings(database.url, database.password)
    store = await PostgresStore.open(settings, clock=lambda: NOW)
    await accept(store, arrival(b"key"))
    await store.close()


async def test_an_intact_store_has_no_damage(postgres: PostgresServer, database: Database) -> None:
    await stored_one(database)
    found = await stored_postgres.read(postgres, database)
    assert (found.damage, found.pending, found.leased, found.rows.total()) == ((), 1, 0, 1)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM events", ["delivery without its event", "key without its event"]),
        ("DELETE FROM deliveries", ["event without a delivery"]),
        ("DELETE FROM dedupe_keys", ["event without a key"]),
        (
            "UPDATE deliveries SET status = 'delivered', due_ms = NULL, leased_until_ms = 1",
            ["finished, but leased or due"],
        ),
    ],
)
async def test_incomplete_rows_are_found(
    postgres: PostgresServer, database: Database, statement: str, what: list[str]
) -> None:
    await stored_one(database)
    postgres.sql(statement, database=database.name)
    found = await stored_postgres.read(postgres, database)
    assert [text.partition(":")[0] for text in found.damage] == what


async def test_a_delivery_that_is_still_leased_is_counted(
    postgres: PostgresServer, database: Database
) -> None:
    await stored_one(database)
    postgres.sql("UPDATE deliveries SET leased_until_ms = 1", database=database.name)
    assert (await stored_postgres.read(postgres, database)).leased == 1


async def test_an_index_that_lacks_a_row_is_found(postgres: PostgresServer, database: Database) -> None:
    """The test marks the index as not ready in the catalog for a moment."""
    await stored_one(database)
    postgres.sql(
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'deliveries_pending'::regclass",
        "UPDATE deliveries SET due_ms = due_ms + 1",
        "UPDATE pg_index SET indisready = true WHERE indexrelid = 'deliveries_pending'::regclass",
        database=database.name,
    )
    (text,) = (await stored_postgres.read(postgres, database)).damage
    assert "deliveries_pending" in text
