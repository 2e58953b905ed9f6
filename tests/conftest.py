"""Fixtures that several kinds of tests use."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from machine import lacking
from postgres_server import Database, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# A run of all tests says what a change did, so it tries the same examples each time. `make fuzz` explores.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("GATEHOUSE_HYPOTHESIS", "same"))

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".tools/usr/bin/promtool"


def pytest_collection_finish() -> None:
    """Keep the collector from what pytest knows of all tests.

    Each full collection looked through half a million objects, a third of a second and more in which every
    gateway of this process stood still: long enough for a 503.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker."""
    found = os.environ.get("GATEHOUSE_TEST_PROMTOOL") or shutil.which("promtool")
    if found is None and FETCHED.is_file():
        found = str(FETCHED)
    if found is None:
        lacking("no promtool: run tests/acceptance/fetch_promtool.sh, or set GATEHOUSE_TEST_PROMTOOL")
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL for all tests. Who stops or restarts it leaves it as it was."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Name a database with the store's tables and nothing in them, for others to be copies of."""
    from gatehouse.store.postgres import PostgresStore  # noqa: PLC0415 - most tests have nothing to do with it
    from gatehouse.store.postgres.connection import PostgresSettings  # noqa: PLC0415

    template = postgres.create_database("migrated")

    async def migrate() -> None:
        store = await PostgresStore.open(PostgresSettings(template.url, template.password))
        await store.close()

    with asyncio.Runner() as runner:
        runner.run(migrate())
    return template.name


@pytest.fixture
def database(postgres: PostgresServer, migrated: str) -> Iterator[Database]:
    """Give a database of the test's own, with the store's tables in it."""
    database = postgres.create_database(template=migrated)
    yield database
    postgres.drop_database(database.name)


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[Database]:
    """Give a database of the test's own in which there is nothing yet."""
    database = postgres.create_database()
    yield database
    postgres.drop_database(database.name)
