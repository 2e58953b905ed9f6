"""The SQLite store opens a file of an earlier version."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, arrival, event, lease, result
from doubles.dedupe import dedupe_keys
from gatehouse.store.base import Counts
from gatehouse.store.records import DeliveryQuery, EventQuery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.schema import migrations

if TYPE_CHECKING:
    from pathlib import Path

MILLISECONDS = int(NOW * 1000)
BODY = b'{"id":"evt_1"}'
IDS = [event(received=NOW + number).id for number in range(4)]
#: Rows of schema version 2: one pending, one leased when the process was killed, one dead, one delivered.
DELIVERIES = [
    ("pending", 1, MILLISECONDS + 500, 0),
    ("pending", 0, MILLISECONDS + 30_000, MILLISECONDS + 30_000),
    ("dead", 7, None, 0),
    ("delivered", 1, None, 0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of schema version 2 with some rows in it."""
    path = tmp_path / "gatehouse.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for migration in migrations()[:2]:
        connection.executescript(migration)
    connection.execute("PRAGMA user_version = 2")
    for seq, (event_id, (status, attempts, due_ms, lease_ms)) in enumerate(
        zip(IDS, DELIVERIES, strict=True), start=1
    ):
        connection.execute(
            "INSERT INTO events (seq, id, source, path, provider, external_id, type, time, received_ms,"
            " headers, data_is_json, digest, body) VALUES (?, ?, 'mandato', '/w', 'mandato', 'evt',"
            " 'invoice.paid', '2025-06-15T15:06:40Z', ?, '[]', 1, ?, ?)",
            (seq, event_id, MILLISECONDS + 1000 * (seq - 1), hashlib.sha256(BODY).digest(), BODY),
        )
        connection.execute(
            "INSERT INTO dedupe_keys VALUES ('mandato', 0, ?, ?, ?)",
            (b"%d" % seq, event_id, MILLISECONDS + 10**9),
        )
        connection.execute(
            "INSERT INTO deliveries (event_seq, destination, status, attempts, received_ms, due_ms,"
            " leased_until_ms, last_reason, updated_ms) VALUES (?, 'billing', ?, ?, ?, ?, ?, NULL, 0)",
            (seq, status, attempts, MILLISECONDS + 1000 * (seq - 1), due_ms, lease_ms),
        )
    connection.close()
    return path


@pytest.mark.case("U-01")
async def test_pending_deliveries_are_delivered_and_count_from_when_they_were_received(path: Path) -> None:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    leased = await lease(store, now=NOW + 60)
    assert [(each.event.id, each.attempts, each.since, each.earlier) for each in leased] == [
        (IDS[0], 1, NOW, 0),
        (IDS[1], 1, NOW + 1, 0),
    ]
    assert await store.record([result(each) for each in leased]) == [True, True]
    assert await store.counts() == {"billing": Counts(pending=0, dead=1, oldest_pending=None)}
    await store.close()


@pytest.mark.case("U-01")
async def test_known_events_stay_known_and_listed(path: Path) -> None:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    (key,) = dedupe_keys(b"3")
    assert key is not None
    await store.use_legacy_places(lambda: {"mandato": [[key.scope]]})
    (receipt,) = await accept(store, arrival(b"3"))
    assert (receipt.status, receipt.event_id, receipt.reply) == ("duplicate", IDS[2], None)
    rows = (await store.events(EventQuery(), limit=10)).items
    assert [row.id for row in rows] == IDS[::-1]
    assert [row.dead for row in rows] == [0, 1, 0, 0]
    await store.close()


@pytest.mark.case("U-01")
async def test_dead_deliveries_can_be_retried_and_delivered_events_replayed(path: Path) -> None:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    assert (await store.retry(DeliveryQuery(), now=NOW + 9, limit=10)).destinations == {"billing": 1}
    assert await store.replay(IDS[3], ["billing"], now=NOW + 9) == ["billing"]
    again = (await lease(store, now=NOW + 60))[2:]
    assert [(each.event.id, each.attempts, each.since, each.earlier) for each in again] == [
        (IDS[2], 7, NOW + 9, 7),
        (IDS[3], 1, NOW + 9, 1),
    ]
    await store.close()


@pytest.mark.case("U-01")
async def test_a_crash_during_the_upgrade_leaves_the_file_unchanged(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE paused_destinations (in_the_way)")
    with pytest.raises(Exception, match="already exists"):
        await SqliteStore.open(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(deliveries)")]
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert "order_key" not in columns
    connection.execute("DROP TABLE paused_destinations")
    connection.close()
    store = await SqliteStore.open(path, clock=lambda: NOW)
    assert len(await lease(store, now=NOW + 60)) == 2
    await store.close()


@pytest.mark.case("U-01")
async def test_the_upgraded_table_rejects_an_unknown_status(path: Path) -> None:
    store = await SqliteStore.open(path, clock=lambda: NOW)
    await store.close()
    connection = sqlite3.connect(path, isolation_level=None)

    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute("UPDATE deliveries SET status = 'lost', due_ms = NULL")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    plan = connection.execute(
        "EXPLAIN UPDATE deliveries SET status = 'dead' WHERE event_seq = 1 AND destination = 'billing'"
    ).fetchall()
    connection.close()
    # SQLite opens an ephemeral table for the list of an IN, for each row.
    assert "OpenEphemeral" not in {step[1] for step in plan}


async def test_deliveries_from_before_the_upgrade_list_their_known_attempts(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE deliveries SET last_reason = 'ok', attempts = 3 WHERE status = 'delivered'")
    connection.execute("UPDATE deliveries SET last_reason = 'server_error' WHERE status = 'dead'")
    connection.close()
    store = await SqliteStore.open(path, clock=lambda: NOW)
    found = [await store.event(event_id) for event_id in IDS]
    made = [each.attempts["billing"] for each in found if each is not None]
    await store.close()

    assert made[:2] == [(), ()]
    (last,) = made[2]
    assert (last.number, last.reason, last.duration) == (7, "server_error", None)
    (only,) = made[3]
    assert (only.number, only.reason, only.duration) == (3, "ok", None)
