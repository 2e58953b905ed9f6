"""Every store still knows the dedupe keys of version 0.1 after the upgrade."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from msgspec.structs import replace
from multidict import CIMultiDict

from conformance.builders import NOW, WINDOW, accept, arrival, event, lease
from conformance.conftest import Clock, PostgresBackend, SqliteBackend
from doubles.old_store import BODY, STATUSES, OldKey, write_postgres, write_sqlite
from gatehouse.config.sources import DedupeConfig
from gatehouse.events.dedupe import UNREADABLE_SCOPE, KeyReader, scopes_of
from gatehouse.language.request import Request
from gatehouse.language.scope import Scope
from gatehouse.store.base import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from gatehouse.events.dedupe import DedupeKey
    from gatehouse.store.base import Arrival, Places, Receipt, Store
    from postgres_server import Database

    Ask = Callable[[str], Awaitable[list[tuple[Any, ...]]]]

MS = int(NOW * 1000)
FIRST, SECOND, OLDEST = (event(received=NOW - ago).id for ago in (60, 30, 90))
#: The dedupe templates of version 0.1, and the keys that it stored for them.
BY = ("{header:Delivery}", ("{body:id}", "{body:key}"))
KEYS = [
    OldKey(0, b"d1", FIRST, MS + 1000 * 86400),
    OldKey(1, b"e1", FIRST, MS + 1000 * 86400),
    OldKey(1, b"k2", SECOND, MS + 2000 * 86400),
    OldKey(2, b"unreadable", SECOND, MS + 2000 * 86400),
    OldKey(0, b"gone", OLDEST, MS - 1),
]


def by(*templates: Any) -> DedupeConfig:
    return DedupeConfig.model_validate({"by": templates})


def places(*templates: Any) -> Places:
    return {"mandato": [*map(scopes_of, by(*templates).templates), (UNREADABLE_SCOPE,)]}


def keys(templates: Sequence[Any], body: bytes, **headers: str) -> tuple[DedupeKey | None, ...]:
    scope = Scope(Request("POST", "/", "", CIMultiDict(headers), body))
    reader = KeyReader(by(*templates))
    if body == b"unreadable":
        return (reader.unreadable(body, NOW),)
    return reader.read(scope, NOW)


def arriving(templates: Sequence[Any], body: bytes, **headers: str) -> Arrival:
    return replace(arrival(of=event(BODY)), keys=keys(templates, body, **headers))


@pytest.fixture(params=["sqlite", "postgres"])
async def old(request: pytest.FixtureRequest, clock: Clock) -> SqliteBackend | PostgresBackend:
    """Return a backend whose store version 0.1 has filled."""
    if request.param == "sqlite":
        path: Path = request.getfixturevalue("tmp_path") / "gatehouse.db"
        write_sqlite(path, KEYS, received_ms=MS - 60_000)
        return SqliteBackend(path, clock)
    return await old_postgres(request.getfixturevalue("empty_database"), clock)


async def old_postgres(database: Database, clock: Clock) -> PostgresBackend:
    ahead = database_now_ms() - MS
    shifted = [key._replace(expires_ms=key.expires_ms + ahead) for key in KEYS]
    await write_postgres(database, shifted, received_ms=MS - 60_000)
    return PostgresBackend(database, clock)


def database_now_ms() -> int:
    """Keys expire by the database's clock, which is that of this machine."""
    return int(time.time() * 1000)


@pytest.fixture
async def upgraded(old: SqliteBackend | PostgresBackend) -> AsyncIterator[Store]:
    store = await old.open()
    await store.use_legacy_places(lambda: places(*BY))
    yield store
    await store.close()


@pytest.fixture
def ask(request: pytest.FixtureRequest, old: SqliteBackend | PostgresBackend) -> Ask:
    """Return a function that queries the database directly."""

    async def ask(statement: str) -> list[tuple[Any, ...]]:
        if isinstance(old, SqliteBackend):
            path = request.getfixturevalue("tmp_path") / "gatehouse.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as file:
                return file.execute(statement).fetchall()
        database = request.getfixturevalue("empty_database")
        connection = await asyncpg.connect(database.url, password=database.password)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return ask


def told(receipts: Sequence[Receipt]) -> list[tuple[str, str]]:
    return [(receipt.status, receipt.event_id) for receipt in receipts]


@pytest.mark.case("F-08")
@pytest.mark.parametrize(
    "now_by",
    [
        BY,
        (("{body:id}", "{body:key}"), "{header:Delivery}"),
        ("{header:New}", *BY),
        ("{body:id}", "{body:key}"),
        ({"key": ("{body:new}", "{body:id}", "{body:key}"), "window": "1h"},),
    ],
    ids=["unchanged", "another order", "one in front", "a list taken apart", "one in front in a list"],
)
async def test_a_repetition_of_an_event_that_version_0_1_accepted_is_a_duplicate(
    upgraded: Store, now_by: Any
) -> None:
    receipts = await accept(
        upgraded,
        arriving(now_by, b'{"id":"e1"}', New="n1"),
        arriving(now_by, b'{"key":"k2"}', New="n2"),
        arriving(now_by, b"unreadable"),
        arriving(now_by, b'{"id":"e3"}', Delivery="d3"),
        arriving(now_by, b'{"id":"e3"}', Delivery="d3"),
    )

    assert told(receipts[:3]) == [("duplicate", FIRST), ("duplicate", SECOND), ("duplicate", SECOND)]
    assert [receipt.status for receipt in receipts[3:]] == ["accepted", "duplicate"]
    found = await upgraded.known("mandato", keys(now_by, b'{"id":"e1"}'), now=NOW)
    assert found is not None
    assert found.event_id == FIRST


@pytest.mark.case("F-08")
async def test_a_value_that_version_0_1_stored_at_another_place_makes_no_duplicate(upgraded: Store) -> None:
    """`[a, b]` became `[b]`: a new value of b was known as a value of a."""
    receipts = await accept(
        upgraded,
        arriving(["{body:id}"], b'{"id":"d1"}'),
        arriving(["{header:Other}"], b"{}", Other="d1"),
        arriving(BY, b'{"id":"unreadable"}'),
        arriving(BY, b"{}", Delivery="gone"),
        replace(arriving(BY, b'{"id":"e1"}'), event=event(BODY, source="shop")),
    )

    assert [receipt.status for receipt in receipts] == ["accepted"] * 5


@pytest.mark.case("F-08")
async def test_places_of_legacy_keys_are_kept_when_the_config_changes(
    old: SqliteBackend | PostgresBackend, upgraded: Store
) -> None:
    await upgraded.close()
    store = await old.open()
    await store.use_legacy_places(lambda: places("{body:other}"))
    receipts = await accept(
        store, arriving(BY, b"{}", Delivery="d1"), arriving(["{body:other}"], b'{"other":"d1"}')
    )
    await store.close()

    assert [receipt.status for receipt in receipts] == ["duplicate", "accepted"]


@pytest.mark.case("F-08")
async def test_after_the_last_legacy_key_has_expired_legacy_keys_are_not_looked_up(
    old: SqliteBackend | PostgresBackend, upgraded: Store, clock: Clock, ask: Ask
) -> None:
    if isinstance(old, PostgresBackend):
        await ask("UPDATE dedupe_places SET added = now() - interval '2 h'")
    for days in (1.5, 3):
        clock.now = NOW + days * 86400
        while not (await upgraded.purge(now=clock.now, events_before=0, dead_before=0, limit=100)).done:
            pass
        (left,) = await ask("SELECT count(*) FROM dedupe_places")
        assert bool(left[0]) == (days < 2)
    await upgraded.close()

    store = await old.open()
    await store.use_legacy_places(lambda: pytest.fail("asked for places"))
    await store.close()


async def test_a_new_store_has_no_legacy_keys(store: Store) -> None:
    await accept(store, arrival(b"1"))
    await store.use_legacy_places(lambda: pytest.fail("asked for places"))


@pytest.mark.case("F-08")
async def test_deliveries_keep_their_status_during_the_upgrade_and_events_lack_what_was_not_stored(
    upgraded: Store, ask: Ask
) -> None:
    assert set(map(tuple, await ask("SELECT verified_by, stored_ms FROM events"))) == {(None, None)}
    assert await upgraded.counts() == {
        "to-pending": Counts(pending=3, dead=0, oldest_pending=NOW - 60),
        "to-dead": Counts(pending=0, dead=3, oldest_pending=None),
    }
    assert len(STATUSES) == 3
    if not upgraded.shared:
        assert len(await lease(upgraded, "to-pending", now=NOW + WINDOW)) == 3


#: The statements of version 0.1 that look up a key and store one.
_V01_KNOWS = """
SELECT event_id FROM dedupe_keys WHERE source = 'mandato' AND place = $1 AND key = $2 AND expires_ms > $3
"""
_V01_RECORDS = "INSERT INTO dedupe_keys VALUES ('mandato', 0, 'late', $1, $2)"


@pytest.mark.case("F-08")
async def test_during_a_rolling_upgrade_both_versions_recognize_events_of_the_other(
    empty_database: Database, clock: Clock
) -> None:
    backend = await old_postgres(empty_database, clock)
    connection = await asyncpg.connect(empty_database.url, password=empty_database.password)
    store = await backend.open()
    await store.use_legacy_places(lambda: places(*BY))
    now_ms = database_now_ms()
    (new,) = await accept(store, arriving(BY, b'{"id":"e9"}', Delivery="d9"))
    assert await connection.fetchval(_V01_KNOWS, 0, b"d9", now_ms) == new.event_id
    assert await connection.fetchval(_V01_KNOWS, 1, b"e9", now_ms) == new.event_id

    await connection.execute(_V01_RECORDS, SECOND, now_ms + 10**9)
    assert told(await accept(store, arriving(BY, b"{}", Delivery="late"))) == [("duplicate", SECOND)]

    # An hour later no gateway of that version runs any more.
    await connection.execute("UPDATE dedupe_places SET added = now() - interval '2 h'")
    await store.close()
    store = await backend.open()
    await store.use_legacy_places(lambda: places(*BY))
    await accept(store, arriving(BY, b"{}", Delivery="d10"))
    assert await connection.fetchval(_V01_KNOWS, 0, b"d10", now_ms) is None
    await store.close()
    await connection.close()
