"""The SQLite store never delivers an event that is damaged on the disk, and still delivers the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.errors import OUTCOME_REASONS, StoreError
from gatehouse.store.records import DeliveryQuery, EventQuery
from gatehouse.store.sqlite import SqliteStore
from gatehouse.store.sqlite.rows import fetch, text_or_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatehouse.store.base import Arrival
    from gatehouse.store.records import DeliveryRow

FORM = event(b"payload=%7B%7D", data_span=(0, 2))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "gatehouse.db", clock=lambda: NOW)
    yield store
    await store.close()


async def damage(store: SqliteStore, damaged: Arrival, change: str) -> None:
    """Change a row as a fault of the disk does, without the store's checks."""
    sql = f"UPDATE events SET {change} WHERE id = ?"  # noqa: S608 - a test's own
    await (await store._database.writer()).run(lambda on: on.execute(sql, (damaged.event.id,)).fetchall())


async def rows(store: SqliteStore, **query: Any) -> list[DeliveryRow]:
    return list((await store.deliveries(DeliveryQuery(**query), limit=100)).items)


@pytest.mark.case("D-11")
@pytest.mark.case("O-12")
@pytest.mark.parametrize(
    "change",
    [
        "body = x'00'",
        "body = CAST(body || 'x' AS BLOB)",
        "document = x'5b5d'",
        "document = NULL",
        "type = 'invoice.paid'",
        "type = CAST(x'ff' AS TEXT)",
        "headers = '[['",
        "headers = '[[1]]'",
        "headers = '[]'",
        "data_start = 1",
        "id = '01JXT21Q00AAAAAAAAAAAAAAAA'",
        "id = CAST(x'ff' AS TEXT)",
        "received_ms = received_ms + 1",
        "digest = x'00'",
    ],
)
async def test_a_damaged_event_is_dead_and_the_others_of_its_batch_are_leased(
    store: SqliteStore, change: str
) -> None:
    fields = {name: getattr(FORM, name) for name in FORM.__struct_fields__ if name != "id"}
    form = type(FORM)(**fields | {"id": event().id, "document": b"{}", "headers": (("a", "b"),)})
    before, damaged, after = arrival(), arrival(of=form), arrival()
    await accept(store, before, damaged, after)
    await damage(store, damaged, change)
    with capture_logs() as logs:
        leased = await lease(store)
    assert [each.event for each in leased] == [before.event, after.event]
    assert [(line["event"], line["destination"]) for line in logs] == [("store.corrupt", "billing")]
    assert (await store.counts())["billing"].dead == 1
    assert await store.record([result(each) for each in leased]) == [True, True]
    assert await lease(store, now=NOW + 10**6) == []


@pytest.mark.case("D-11")
async def test_the_dead_letter_of_a_damaged_event_has_the_reason_corrupt(store: SqliteStore) -> None:
    damaged = arrival()
    await accept(store, damaged)
    await damage(store, damaged, "body = x'00'")
    with capture_logs() as logs:
        await lease(store, now=NOW + 1)
    assert logs == [
        {
            "event": "store.corrupt",
            "log_level": "error",
            "event_id": damaged.event.id,
            "destination": "billing",
        }
    ]
    (row,) = await rows(store, status="dead")
    assert (row.last_reason, row.last_http_status, row.attempts, row.updated) == ("corrupt", None, 0, NOW + 1)
    assert row.last_reason in OUTCOME_REASONS


async def test_the_next_delivery_of_an_order_key_is_due_after_a_damaged_one(store: SqliteStore) -> None:
    damaged, following = arrival(order=b"k"), arrival(order=b"k")
    await accept(store, damaged, following)
    await damage(store, damaged, "body = x'00'")
    assert await lease(store) == []
    assert [each.event for each in await lease(store)] == [following.event]


async def test_a_damaged_event_that_is_retried_is_dead_again(store: SqliteStore) -> None:
    damaged = arrival()
    await accept(store, damaged)
    await damage(store, damaged, "body = x'00'")
    await lease(store)
    await store.retry(DeliveryQuery(), now=NOW, limit=10)
    assert await lease(store) == []
    assert (await store.counts())["billing"].dead == 1


async def test_damage_to_an_event_without_a_checksum_is_detected_by_its_body(store: SqliteStore) -> None:
    sound, damaged, unreadable = arrival(), arrival(), arrival()
    await accept(store, sound, damaged, unreadable)
    for each in (sound, damaged, unreadable):
        await damage(store, each, "checksum = NULL")
    await damage(store, damaged, "body = x'00'")
    await damage(store, unreadable, "headers = '[['")
    assert [each.event for each in await lease(store)] == [sound.event]


async def test_an_intact_row_is_never_treated_as_damaged(store: SqliteStore) -> None:
    odd = event(
        b"",
        headers=(("a", "caf\udce9"), ("b", "")),
        content_type="caf\udce9",
        subject="",
        data_span=(0, 0),
        data_is_json=False,
        received=NOW + 0.0004,
    )
    await accept(store, arrival(of=odd), arrival(of=FORM))
    assert len(await lease(store, now=NOW + 1)) == 2


async def test_a_statement_that_fails_for_another_reason_is_not_repeated(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="no such table"):
        await store._read(lambda on: fetch(on, "SELECT 1 FROM missing", (), text_or_bytes))


async def test_a_damaged_event_is_not_shown_and_does_not_hide_others_in_a_list(store: SqliteStore) -> None:
    damaged, sound = arrival(), arrival()
    await accept(store, damaged, sound)
    await damage(store, damaged, "type = CAST(x'69ff' AS TEXT)")
    with pytest.raises(StoreError, match="damaged"):
        await store.event(damaged.event.id)
    assert {row.type for row in await rows(store)} == {"i\N{REPLACEMENT CHARACTER}", "invoice.accepted"}
    assert len((await store.events(EventQuery(), limit=10)).items) == 2
    await damage(store, sound, "body = x'00'")
    with pytest.raises(StoreError, match="damaged"):
        await store.event(sound.event.id)
