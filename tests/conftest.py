"""Fixtures that several test suites share."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from machine import lacking
from postgres_server import Database, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# A full test run tries the same examples each time, to show what a change did. `make fuzz` tries new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("GATEHOUSE_HYPOTHESIS", "same"))

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".tools/usr/bin/promtool"


# A background job of a script ignores SIGINT, and so would the commands that the tests start and interrupt.
# Unlike that, a handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, lambda *_: None)


def pytest_collection_finish() -> None:
    """Exclude pytest's own objects from garbage collection.

    Otherwise each full collection visits half a million objects. That takes a third of a second or
    more, in which every gateway of this process stands still: long enough for a 503.
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
    """Run one PostgreSQL for all tests. A test that stops or restarts it must leave it as it was."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Return the name of a database with the store's empty tables, from which other databases are copied."""
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
    """Give the test its own database, with the store's tables."""
    database = postgres.create_database(template=migrated)
    yield database
    postgres.drop_database(database.name)


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[Database]:
    """Give the test its own empty database."""
    database = postgres.create_database()
    yield database
    postgres.drop_database(database.name)
