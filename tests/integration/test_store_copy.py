"""A SQLite store is copied completely to a real PostgreSQL, or the copy is refused."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from conformance.builders import accept, arrival, event, lease, result
from doubles.dedupe import dedupe_keys
from doubles.old_store import BODY, OldKey, write_sqlite
from gatehouse.errors import SchemaVersionError, StoreError, StoreInUseError, StoreUnavailableError
from gatehouse.store.base import Store
from gatehouse.store.copying import source as reading
from gatehouse.store.copying import target as target_module
from gatehouse.store.copying.run import Copy, copy_store
from gatehouse.store.copying.source import copy_source
from gatehouse.store.copying.target import CopyTarget
from gatehouse.store.operations import Kind, Operation, Step
from gatehouse.store.postgres import PostgresSettings, PostgresStore
from gatehouse.store.postgres.connection import SLOW, Connector
from gatehouse.store.records import Attempt, AuditQuery, DeliveryQuery, StoredEvent
from gatehouse.store.sqlite import SqliteStore
from postgres_server import Database, PostgresServer
from stores import everything, fill

NOW = time.time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gatehouse.db"


async def copy(path: Path, database: Database, *, into_used_store: bool = False) -> Copy:
    return await copy_store(path, settings(database), into_used_store=into_used_store, report=silent)


def silent(what: str, done: int, total: int) -> None:
    assert what
    assert 0 <= done <= total


def settings(database: Database) -> PostgresSettings:
    return PostgresSettings(database.url, database.password)


async def opened(database: Database) -> PostgresStore:
    return await PostgresStore.open(settings(database))


def keeps(row: Any) -> tuple[Any, ...]:
    """Return the data that a copy must not change, with times rounded to seconds."""
    times = round(row.updated), row.due is not None and row.due > time.time() + 1000
    return (row.event_id, row.source, row.type, row.destination, row.status, row.received, *times)


def attempts_of(stored: StoredEvent) -> list[Attempt]:
    """Return the attempts of an event, without their times."""
    return [replace(each, at=0.0) for some in stored.attempts.values() for each in some]


async def test_operators_see_the_same_data_after_a_copy(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    copied = await copy(path, empty_database)
    before, after = await SqliteStore.open(path), await opened(empty_database)
    events, rows = await everything(before)
    copied_events, copied_rows = await everything(after)
    paused = await after.paused()
    changes = [(await store.audit(AuditQuery(), limit=9)).items for store in (before, after)]
    await before.close()
    await after.close()

    assert copied.comparison.is_equal, copied.comparison
    assert len(events) == 3 + 1 + 4 + 5
    assert [each.event for each in copied_events] == [each.event for each in events]
    facts = [(each.verified_by, each.stored) for each in events]
    assert [(each.verified_by, each.stored) for each in copied_events] == facts
    assert {by for by, _ in facts} == {None, "HMAC-SHA256 with file:/run/caf\u00e9"}
    assert None not in {stored for _, stored in facts}
    assert list(map(keeps, copied_rows)) == list(map(keeps, rows))
    # Opening the SQLite store has counted the attempt of the lease, and so has the copy.
    assert [row.attempts for row in copied_rows] == [row.attempts for row in rows]
    assert [row.last_reason for row in copied_rows] == [row.last_reason for row in rows]
    assert {row.status for row in copied_rows} == {"pending", "delivered", "dead"}
    made = [attempts_of(each) for each in copied_events]
    assert made == [attempts_of(each) for each in events]
    assert copied.comparison.source["attempts"] == 3
    assert sum(each.reply == b"\x00\xff" for some in made for each in some) == 2
    assert paused == {"archive"}
    assert changes[0] == changes[1]
    assert [entry.action for entry in changes[1]] == ["replay", "pause"]
    assert copied.comparison.source["deliveries held"] == len(filled.ordered) - 1


async def test_discarded_deliveries_keep_their_notes(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    before = await SqliteStore.open(path)
    chosen = DeliveryQuery(event_id=filled.dead)
    discarded = await before.discard(chosen, note="caf\u00e9", by="alice", now=time.time(), limit=9)
    await before.close()
    copied = await copy(path, empty_database)
    after = await opened(empty_database)
    stored = await after.event(filled.dead)
    await after.close()

    assert discarded.destinations == {"billing": 1}
    assert copied.comparison.is_equal, copied.comparison
    assert copied.comparison.source["deliveries discarded"] == 1
    assert stored is not None
    (delivery,) = stored.deliveries
    assert (delivery.status, delivery.note, delivery.discarded_by) == ("discarded", "caf\u00e9", "alice")


async def test_operations_continue_where_they_were(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    before = await SqliteStore.open(path)
    for each in await before.take_operations("gateway", now=time.time(), until=time.time() + 15):
        position = "7" if each.kind == "retry" else filled.dead
        step = Step((), position, is_last=False, now=NOW, until=NOW + 15, configured=frozenset())
        await before.step(each, "gateway", step)
    replays, retries = [await before.operations(kind, limit=9) for kind in get_args(Kind)]
    await before.close()

    copied = await copy(path, empty_database)
    after = await opened(empty_database)
    copied_replays, copied_retries = [await after.operations(kind, limit=9) for kind in get_args(Kind)]
    taken = await after.take_operations("other", now=time.time(), until=time.time() + 15)
    await after.close()

    assert copied.comparison.source["operations"] == 2
    assert [round_times(each) for each in copied_replays] == [round_times(each) for each in replays]
    # Its position was a number of the SQLite file. It finds only what is still dead.
    assert [round_times(each) for each in copied_retries] == [
        round_times(replace(each, position="")) for each in retries
    ]
    assert {each.id for each in taken} == {each.id for each in (*replays, *retries)}


def round_times(each: Operation) -> Operation:
    return replace(each, started=round(each.started))


async def test_deliveries_continue_where_they_were(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    await copy(path, empty_database)
    store = await opened(empty_database)
    now = time.time() + 1
    billing = await lease(store, now=now)
    (leased,) = await lease(store, "slow", now=now)
    await store.close()

    due = [each.event.id for each in billing]
    assert sorted(due) == sorted([*filled.pending, filled.replayed])
    (replayed,) = [each for each in billing if each.event.id == filled.replayed]
    assert (replayed.attempts, replayed.earlier) == (1, 1)
    assert (leased.event.id, leased.attempts) == (filled.leased, 1)


async def test_held_deliveries_keep_their_order(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    await copy(path, empty_database)
    store = await opened(empty_database)
    newer = event(b"newer", received=NOW)
    await accept(store, arrival(of=newer, to=["ledger"], order=b"\xff\x00key"))
    order = await drained(store, "ledger")
    await store.close()

    assert order == [*filled.ordered, newer.id]


async def drained(store: Store, destination: str) -> list[str]:
    """Deliver one by one. Returns the order."""
    order = []
    while due := await lease(store, destination, now=time.time() + 1):
        assert len(due) == 1
        order.append(due[0].event.id)
        await store.record([result(due[0])])
    return order


async def test_known_events_are_still_duplicates(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    await copy(path, empty_database)
    store = await opened(empty_database)
    again = [b"k-delivered", b"k-relayed", b"k-0"]
    receipts = await accept(store, *(arrival(key, of=event(b"other")) for key in again))
    await store.close()

    assert [receipt.status for receipt in receipts] == ["conflict"] * 3
    assert [receipt.event_id for receipt in receipts] == [filled.delivered, filled.relayed, filled.pending[0]]
    reply = receipts[1].reply
    assert reply is not None
    assert (reply.status, reply.content_type, reply.body) == (201, "text/plain; x=\udce9", b"\x00answer")


async def test_a_dead_letter_can_be_retried(path: Path, empty_database: Database) -> None:
    await fill(path)
    await copy(path, empty_database)
    store = await opened(empty_database)
    retried = await store.retry(DeliveryQuery(), now=time.time(), limit=10)
    await store.close()

    assert retried.destinations == {"billing": 1}


async def test_damaged_events_are_copied_as_dead_and_listed(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET body = x'00' WHERE id = ?", (filled.ordered[0],))
        connection.execute("UPDATE events SET type = CAST(x'ff' AS TEXT) WHERE id = ?", (filled.pending[0],))
        connection.execute("UPDATE events SET id = CAST(x'ff' AS TEXT) WHERE id = ?", (filled.pending[1],))
    copied = await copy(path, empty_database)
    store = await opened(empty_database)
    order = await drained(store, "ledger")
    rows = (await store.deliveries(DeliveryQuery(), limit=100)).items
    await store.close()

    found = copied.comparison
    assert found.is_equal, found
    assert sorted(found.damaged) == sorted([filled.ordered[0], filled.pending[0]])
    assert len(found.left_behind) == 1
    assert order == filled.ordered[1:]
    reasons = {row.event_id: (row.status, row.last_reason) for row in rows}
    assert reasons[filled.ordered[0]] == reasons[filled.pending[0]] == ("dead", "corrupt")


async def test_a_store_that_a_gateway_uses_is_refused(path: Path, empty_database: Database) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(StoreInUseError):
        await copy(path, empty_database)
    await store.close()


async def test_a_missing_file_is_refused_and_not_created(path: Path, empty_database: Database) -> None:
    with pytest.raises(StoreError, match="is not a file"):
        await copy(path, empty_database)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(("version", "said"), [(99, "knows versions up to"), (1, "is needed")])
async def test_a_store_of_another_schema_is_refused(
    path: Path, empty_database: Database, version: int, said: str
) -> None:
    await (await SqliteStore.open(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(SchemaVersionError, match=said):
        await copy(path, empty_database)


async def test_a_database_in_use_is_refused_without_the_option(path: Path, database: Database) -> None:
    await fill(path)
    store = await opened(database)
    theirs = event(b"theirs", received=NOW)
    await accept(store, arrival(b"k-dead", of=theirs, to=["ledger"], until=NOW + 1e6, order=b"\xff\x00key"))
    with pytest.raises(StoreError, match="already contains events"):
        await copy(path, database)
    copied = await copy(path, database, into_used_store=True)
    (receipt,) = await accept(store, arrival(b"k-dead"))
    order = await drained(store, "ledger")
    await store.close()

    assert copied.comparison.is_equal, copied.comparison
    assert receipt.event_id == theirs.id, "the key that was there wins"
    assert order[0] == theirs.id, "one of an order key runs at a time"
    assert len(order) == 5


async def test_a_finished_copy_is_not_repeated(path: Path, empty_database: Database) -> None:
    filled = await fill(path)
    await copy(path, empty_database)
    store = await opened(empty_database)
    delivered = await drained(store, "ledger")
    again = await copy(path, empty_database)
    left = await lease(store, "ledger", now=time.time() + 1)
    await store.close()

    assert again.was_finished
    assert delivered == filled.ordered
    assert left == []


async def test_a_store_that_changed_since_the_copy_began_is_refused(
    path: Path, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(path)
    await interrupted(path, empty_database, monkeypatch)
    store = await SqliteStore.open(path)
    await accept(store, arrival())
    await store.close()
    with pytest.raises(StoreError, match="a gateway has used the SQLite store"):
        await copy(path, empty_database)


async def interrupted(path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a copy fail after its first batch of events."""
    monkeypatch.setattr(reading, "BATCH_EVENTS", 2)
    write, calls = CopyTarget.write, 0

    async def once(self: CopyTarget, *given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreUnavailableError("interrupted")
        await write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(CopyTarget, "write", once)
        with pytest.raises(StoreUnavailableError):
            await copy(path, database)


async def test_a_copy_continues_where_it_stopped(
    path: Path, empty_database: Database, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(path)
    await interrupted(path, empty_database, monkeypatch)
    before = postgres.sql("SELECT count(*) FROM events", database=empty_database.name)
    told = []
    copied = await copy_store(
        path, settings(empty_database), into_used_store=False, report=lambda *given: told.append(given)
    )

    assert before == "2"
    assert told[0] == ("copying events", 4, 13)
    assert copied.is_resumed
    assert copied.comparison.is_equal, copied.comparison


async def test_a_second_concurrent_copy_is_refused(
    path: Path, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "_LOCK_TIMEOUT", 0.5)
    await fill(path)
    other = await Connector(settings(empty_database)).connect(SLOW)
    await other.execute(f"SELECT pg_advisory_lock({target_module._LOCK})")
    with pytest.raises(StoreError, match="another copy"):
        await copy(path, empty_database)
    other.terminate()


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE events SET body = '' WHERE body = 'k-dead'", "events"),
        ("UPDATE events SET subject = 'x' WHERE body = 'k-dead'", "events"),
        ("UPDATE events SET stored_ms = NULL WHERE body = 'k-dead'", "events"),
        ("DELETE FROM events WHERE body = 'k-dead'", "events"),
        ("UPDATE deliveries SET attempts = 7 WHERE status = 'dead'", "deliveries dead"),
        ("DELETE FROM deliveries WHERE status = 'delivered'", "deliveries delivered"),
        ("UPDATE deliveries SET order_seq = -order_seq WHERE due_ms = 2 ^ 62", "deliveries held"),
        ("DELETE FROM dedupe_keys WHERE key = '00000000k-dead'", "dedupe keys"),
        ("UPDATE attempts SET reply = 'other' WHERE reply IS NOT NULL", "attempts"),
        ("DELETE FROM attempts", "attempts"),
        ("UPDATE replies SET status = 500", "replies"),
        ("DELETE FROM paused_destinations", "paused"),
        ("DELETE FROM operations WHERE kind = 'retry'", "operations"),
        ("UPDATE audit SET role = 'read' WHERE action = 'pause'", "audit"),
        ("DELETE FROM audit", "audit"),
    ],
)
async def test_the_comparison_finds_differences(
    path: Path,
    empty_database: Database,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    what: str,
) -> None:
    await fill(path)
    settle = CopyTarget.free_and_analyze

    async def damaging(self: CopyTarget) -> None:
        await settle(self)
        postgres.sql(statement, database=empty_database.name)

    with monkeypatch.context() as patch:
        patch.setattr(CopyTarget, "free_and_analyze", damaging)
        copied = await copy(path, empty_database)
    again = await copy(path, empty_database)

    assert not copied.comparison.is_equal
    assert set(copied.comparison.differing) == {what}
    assert copied.comparison.named[0].startswith(f"{what}: ")
    assert not again.was_finished
    assert not again.comparison.is_equal or what in ("paused", "audit", "operations"), (
        "what was lost is not made good silently"
    )


async def test_a_batch_is_bounded_by_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 25)
    store = await SqliteStore.open(path)
    lengths = [10, 10, 10, 100, 1]
    await store.accept([arrival(of=event(b"x" * length)) for length in lengths], deadline=math.inf)
    await store.close()
    found, after = [], 0
    async with copy_source(path) as source:
        while (batch := await source.batch(after)) is not None:
            found.append([len(each.columns[-2]) for each in batch.events])
            after = batch.last

    assert found == [[10, 10], [10], [100], [1]]


@pytest.mark.case("F-08")
async def test_legacy_keys_are_known_after_an_upgrade_and_a_copy(
    path: Path, empty_database: Database
) -> None:
    """The legacy keys and their places are copied, although the config has changed."""
    now_ms = int(NOW * 1000)
    first = event(received=NOW - 60).id
    write_sqlite(path, [OldKey(1, b"e1", first, now_ms + 10**9)], received_ms=now_ms - 60_000)
    (_, key) = dedupe_keys(None, b"e1", until=NOW + 3600)
    assert key is not None
    store = await SqliteStore.open(path)
    await store.use_legacy_places(lambda: {"mandato": [[b"header.."], [key.scope]]})
    await store.close()

    assert (await copy(path, empty_database)).comparison.is_equal
    there = await opened(empty_database)
    await there.use_legacy_places(lambda: {"mandato": [[b"another."]], "shop": [[b"another."]]})
    (receipt,) = await there.accept([arrival(None, b"e1", of=event(BODY))], deadline=math.inf)
    await there.close()
    assert (receipt.status, receipt.event_id) == ("duplicate", first)
