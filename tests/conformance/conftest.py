"""The stores that the conformance suite runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from conformance.builders import NOW
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from gatehouse.store.base import Store
    from postgres_server import Database

    Reopen = Callable[[], Awaitable[Store]]


class Clock:
    """The clock of a store, which a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Backend(Protocol):
    """Opens a backend's store, each time with the same data."""

    #: Seconds after the end of a process until another one can take over its leases.
    takeover_after: float

    async def open(self) -> Store: ...


class SqliteBackend:
    takeover_after = 0.0

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def open(self) -> Store:
        return await SqliteStore.open(self._path, clock=self._clock)


class PostgresBackend:
    #: The process may still run, so its leases must expire. In these tests they last 30 s.
    takeover_after = 30.0

    def __init__(self, database: Database, clock: Clock) -> None:
        self._settings = PostgresSettings(database.url, database.password)
        self._clock = clock

    async def open(self) -> Store:
        return await PostgresStore.open(self._settings, clock=self._clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, clock: Clock) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(request.getfixturevalue("tmp_path") / "gatehouse.db", clock)
    return PostgresBackend(request.getfixturevalue("database"), clock)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    store = await backend.open()
    yield store
    await store.close()


@pytest.fixture
async def reopen(backend: Backend, store: Store) -> AsyncIterator[Reopen]:
    """Return the store as the next process finds it. As after a crash, no leases are released."""
    opened = [store]

    async def reopen() -> Store:
        await opened[-1].close()
        opened.append(await backend.open())
        return opened[-1]

    yield reopen
    await opened[-1].close()
