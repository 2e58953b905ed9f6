"""Every store keeps the attempts of a delivery, as `Store.record` says, and lists them with the event."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.store.base import Reply, Result
from gatehouse.store.records import Attempt, DeliveryQuery
from gatehouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatehouse.store.base import Delivery, Store

REPLY = b"<h1>Server Error</h1>"


def failed(delivery: Delivery, status: str = "pending", **fields: object) -> Result:
    """Make the result of an attempt that got a 500 and is due again at once."""
    given = {
        "delivery": delivery,
        "status": status,
        "attempts": delivery.attempts + 1,
        "reason": "server_error",
        "http_status": 500,
        "due_at": NOW,
        "at": NOW,
        "duration": 0.25,
        "reply": REPLY,
    }
    return Result(**(given | fields))  # type: ignore[arg-type]


def with_attempts(delivery: Delivery, *made: Attempt) -> Delivery:
    """Return a delivery that was attempted again at once."""
    return replace(delivery, attempts=delivery.attempts + len(made), unrecorded=made)


@pytest.fixture
def count_attempts(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Callable[[], int]:
    """Count the rows of the table."""
    statement = "SELECT count(*) FROM attempts"
    if isinstance(store, SqliteStore):

        def count() -> int:
            with closing(sqlite3.connect(tmp_path / "gatehouse.db")) as connection:
                return int(connection.execute(statement).fetchone()[0])

        return count
    server, database = request.getfixturevalue("postgres"), request.getfixturevalue("database")
    return lambda: int(server.sql(statement, database=database.name))


async def attempts(store: Store, event_id: str, destination: str = "billing") -> tuple[Attempt, ...]:
    stored = await store.event(event_id)
    assert stored is not None
    return stored.attempts[destination]


async def numbers(store: Store, event_id: str) -> list[int]:
    return [each.number for each in await attempts(store, event_id)]


async def fail(store: Store, times: int) -> Delivery:
    """Fail a number of attempts of the only delivery. Returns its last lease."""
    for _ in range(times):
        (delivery,) = await lease(store)
        assert await store.record([failed(delivery)]) == [True]
    return delivery


async def test_a_delivery_without_an_attempt_lists_none(store: Store) -> None:
    arrived = arrival()
    await accept(store, arrived)
    assert await attempts(store, arrived.event.id) == ()


async def test_a_delivery_at_the_first_attempt_lists_that_attempt(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    took = Result(delivery, "delivered", 1, "ok", 202, 0.0, NOW + 1, 0.125, None, b"not kept")
    assert await store.record([took]) == [True]
    (only,) = await attempts(store, delivery.event.id)
    assert only == Attempt(number=1, at=NOW + 1, reason="ok", http_status=202, duration=0.125)


async def test_each_failed_attempt_is_listed_with_its_error_and_reply(store: Store) -> None:
    (first,) = await accept_and_lease(store, arrival())
    refused = failed(
        first, at=NOW + 1, reason="connect", http_status=None, reply=None, error="Connection refused"
    )
    await store.record([refused])
    (second,) = await lease(store)
    await store.record([failed(second, "dead", at=NOW + 2, reply=b"\xff\0")])
    assert await attempts(store, first.event.id) == (
        Attempt(
            number=1,
            at=NOW + 1,
            reason="connect",
            http_status=None,
            duration=0.25,
            error="Connection refused",
        ),
        Attempt(number=2, at=NOW + 2, reason="server_error", http_status=500, duration=0.25, reply=b"\xff\0"),
    )


async def test_a_success_after_failures_is_listed_last_with_its_reply(store: Store) -> None:
    await accept(store, arrival())
    await fail(store, 1)
    (delivery,) = await lease(store)
    await store.record([Result(delivery, "delivered", 2, "ok", 200, 0.0, NOW, 0.5, None, b"done")])
    failure, success = await attempts(store, delivery.event.id)
    assert (failure.number, failure.reason) == (1, "server_error")
    assert (success.number, success.reason, success.reply) == (2, "ok", b"done")


async def test_attempts_belong_to_their_delivery(store: Store) -> None:
    one, other = arrival(to=["billing", "ledger"]), arrival()
    await accept(store, one, other)
    leased = await lease(store)
    results = [failed(each) if each.event.id == one.event.id else result(each) for each in leased]
    await store.record(results)
    assert [each.reason for each in await attempts(store, one.event.id)] == ["server_error"]
    assert await attempts(store, one.event.id, "ledger") == ()
    assert [each.reason for each in await attempts(store, other.event.id)] == ["ok"]


async def test_attempts_that_were_repeated_at_once_are_stored_with_the_last_one(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    before = Attempt(
        number=1, at=NOW, reason="rejected", http_status=422, duration=0.1, error=None, reply=b"no"
    )
    again = with_attempts(delivery, before)
    assert await store.record([result(again)]) == [True]
    first, second = await attempts(store, delivery.event.id)
    assert first == before
    assert (second.number, second.reason) == (2, "ok")


async def test_a_result_without_an_attempt_of_its_own_adds_only_those_before(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    before = Attempt(number=1, at=NOW, reason="server_error", http_status=503, duration=0.1)
    postponed = failed(with_attempts(delivery, before), attempts=1)
    assert await store.record([postponed]) == [True]
    assert await attempts(store, delivery.event.id) == (before,)


async def test_the_result_of_a_lost_lease_adds_no_attempt(store: Store) -> None:
    (lost,) = await accept_and_lease(store, arrival())
    (held,) = await lease(store, now=NOW + 40)
    assert await store.record([failed(lost)]) == [False]
    assert await store.record([failed(held)]) == [True]
    assert await numbers(store, lost.event.id) == [2]
    assert await store.record([failed(held)]) == [False]
    assert await numbers(store, lost.event.id) == [2]


async def test_a_lease_that_a_batch_uses_twice_adds_one_attempt(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.record([failed(delivery), failed(delivery, "dead")]) == [True, False]
    assert await numbers(store, delivery.event.id) == [1]


async def test_attempts_of_ordered_deliveries_are_stored_too(store: Store) -> None:
    await accept(store, arrival(order=b"k"), arrival(order=b"k"))
    (first,) = await lease(store)
    assert await store.record([failed(first, "dead")]) == [True]
    (second,) = await lease(store)
    assert second.event.id != first.event.id
    assert await numbers(store, first.event.id) == [1]


@pytest.mark.parametrize("made", [50, 51, 57])
async def test_of_many_attempts_the_first_10_and_the_last_40_are_kept(store: Store, made: int) -> None:
    await accept(store, arrival(), arrival(to=["ledger"]))
    delivery = await fail(store, made)
    kept = await numbers(store, delivery.event.id)
    assert kept == [*range(1, 11), *range(made - 39, made + 1)]


async def test_attempts_that_were_not_recorded_do_not_leave_older_ones_behind(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    now = NOW
    for number in range(1, 121):
        if number % 3:
            await store.record([failed(delivery, attempts=number)])
        now += 40
        (delivery,) = await lease(store, now=now)
    kept = await numbers(store, delivery.event.id)
    assert kept == sorted(kept)
    assert len(kept) <= 50
    assert all(number <= 10 or number > kept[-1] - 40 for number in kept)


@pytest.mark.parametrize("again", ["replay", "retry"])
async def test_a_replay_or_a_retry_loses_no_attempt(store: Store, again: str) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    first = (
        Result(delivery, "delivered", 1, "ok", 204, 0.0, NOW + 1, 0.5)
        if again == "replay"
        else failed(delivery, "dead", at=NOW + 1, duration=0.5)
    )
    await store.record([first])
    before = await attempts(store, delivery.event.id)
    assert [(each.number, each.at, each.duration) for each in before] == [(1, NOW + 1, 0.5)]
    if again == "replay":
        assert await store.replay(delivery.event.id, ["billing"], now=NOW + 9) == ["billing"]
    else:
        await store.retry(DeliveryQuery(), now=NOW + 9, limit=10)
    assert await attempts(store, delivery.event.id) == before
    (leased,) = await lease(store, now=NOW + 9)
    await store.record([result(leased, at=NOW + 10)])
    assert (await attempts(store, delivery.event.id))[:1] == before
    assert await numbers(store, delivery.event.id) == [1, 2]


async def test_a_second_replay_stores_nothing_twice(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    await store.record([result(delivery)])
    for number in (2, 3):
        await store.replay(delivery.event.id, ["billing", "ledger"], now=NOW)
        (leased,) = await lease(store)
        await store.record([result(leased)])
        assert await numbers(store, delivery.event.id) == [*range(1, number + 1)]
    assert await attempts(store, delivery.event.id, "ledger") == ()


async def test_a_relayed_event_lists_its_attempt(store: Store) -> None:
    arrived = arrival(reply=Reply(202, None, b""))
    await accept(store, arrived)
    (only,) = await attempts(store, arrived.event.id)
    assert (only.number, only.reason, only.http_status, only.duration) == (1, "ok", 202, None)


async def test_a_purge_removes_the_attempts_with_their_event(
    store: Store, count_attempts: Callable[[], int]
) -> None:
    old, new = event(received=NOW - 100), event(received=NOW)
    await accept(store, arrival(of=old), arrival(of=new))
    await store.record([failed(each, "dead") for each in await lease(store)])
    assert count_attempts() == 2
    assert (await store.purge(now=NOW, events_before=NOW - 50, dead_before=NOW - 50, limit=100)).done
    assert await store.event(old.id) is None
    assert await numbers(store, new.id) == [1]
    assert count_attempts() == 1


async def test_deliveries_at_the_first_attempt_store_no_attempts(
    store: Store, count_attempts: Callable[[], int]
) -> None:
    await accept(store, *[arrival() for _ in range(20)])
    await store.record([result(each) for each in await lease(store)])
    assert count_attempts() == 0
