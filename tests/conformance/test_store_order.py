"""Every store delivers events with the same order key one after the other, in the order of arrival."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from conformance.conftest import Backend, Reopen
    from gatehouse.events.event import Event
    from gatehouse.store.base import Arrival, Delivery, Store

#: Later than any due time in these tests.
FAR = NOW + 10**9


def ordered(
    key: bytes = b"inv_1",
    *,
    to: tuple[str, ...] = ("billing",),
    leased: bool = False,
    of: Event | None = None,
) -> Arrival:
    return arrival(to=to, order=key, leased=leased, of=of)


def events(deliveries: list[Delivery]) -> list[Event]:
    return [each.event for each in deliveries]


async def test_a_delivery_behind_a_pending_one_of_its_key_is_held(store: Store) -> None:
    first, second = ordered(), ordered()
    assert (await accept(store, first))[0].held == ()
    assert (await accept(store, second))[0].held == ("billing",)
    assert events(await lease(store)) == [first.event]
    assert await lease(store, now=NOW + 29) == []


async def test_only_the_first_delivery_of_a_key_in_a_batch_is_active(store: Store) -> None:
    batch = [ordered(b"a"), ordered(b"b"), ordered(b"a"), ordered(b"a")]
    receipts = await accept(store, *batch)
    assert [each.held for each in receipts] == [(), (), ("billing",), ("billing",)]
    assert events(await lease(store)) == [batch[0].event, batch[1].event]


async def test_a_held_delivery_is_not_leased_on_arrival(store: Store) -> None:
    first, second = await accept(store, ordered(leased=True), ordered(leased=True))
    assert first.leased_until > NOW
    assert (second.leased_until, second.held) == (0.0, ("billing",))
    assert len(await lease(store, now=NOW + 31)) == 1


async def test_the_receipt_names_only_the_destinations_that_are_held(store: Store) -> None:
    await accept(store, ordered(to=("billing",)))
    (receipt,) = await accept(store, ordered(to=("billing", "ledger"), leased=True))
    assert receipt.held == ("billing",)
    assert receipt.leased_until > NOW
    assert await lease(store, "ledger", now=NOW + 1) == []


async def test_a_repeated_destination_does_not_wait_for_itself(store: Store) -> None:
    (receipt,) = await accept(store, ordered(to=("billing", "billing")))
    assert receipt.held == ()
    assert len(await lease(store)) == 1


async def test_a_duplicate_holds_no_delivery(store: Store) -> None:
    known = arrival(b"k", order=b"inv_1")
    (delivery,) = await accept_and_lease(store, known)
    await store.record([result(delivery)])
    duplicate, following = await accept(store, arrival(b"k", order=b"inv_1"), ordered())
    assert (duplicate.status, following.held) == ("duplicate", ())


async def test_other_keys_other_destinations_and_no_key_do_not_wait(store: Store) -> None:
    await accept(store, ordered())
    receipts = await accept(store, ordered(b"inv_2"), ordered(to=("ledger",)), arrival(), ordered(b""))
    assert [each.held for each in receipts] == [()] * 4
    assert len(await lease(store)) == 4


@pytest.mark.parametrize("status", ["delivered", "dead"])
async def test_the_next_delivery_is_due_when_the_one_before_it_ends(store: Store, status: str) -> None:
    batch = [ordered(of=event(received=NOW - 3 + number)) for number in range(3)]
    (delivery,) = await accept_and_lease(store, *batch)
    assert await store.record([result(delivery, status)]) == [True]
    due = await store.next_due("billing")
    assert due is not None
    assert due <= NOW
    (following,) = await lease(store)
    assert (following.event, following.attempts) == (batch[1].event, 0)


async def test_a_delivery_that_is_retried_still_holds_the_others(store: Store) -> None:
    first, second = ordered(), ordered()
    (delivery,) = await accept_and_lease(store, first, second)
    await store.record([result(delivery, "pending", due_at=NOW + 60)])
    assert await lease(store, now=NOW + 59) == []
    assert events(await lease(store, now=NOW + 60)) == [first.event]


async def test_a_lost_lease_frees_nothing(store: Store) -> None:
    first, second = ordered(), ordered()
    (old,) = await accept_and_lease(store, first, second)
    (new,) = await lease(store, now=NOW + 31)
    assert await store.record([result(old)]) == [False]
    assert await lease(store, now=NOW + 32) == []
    await store.record([result(new)])
    assert events(await lease(store, now=NOW + 32)) == [second.event]


async def test_one_batch_of_results_frees_many_keys(store: Store) -> None:
    keys = [b"%d" % number for number in range(600)]
    firsts = await accept_and_lease(store, *[ordered(key) for key in keys])
    await accept(store, *[ordered(key) for key in keys for _ in range(2)])
    assert await store.record([result(each) for each in firsts]) == [True] * 600
    assert len(await lease(store)) == 600


async def test_a_held_delivery_is_never_due(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, ordered(), ordered())
    assert await store.next_due("billing") == NOW + 30
    await store.record([result(delivery, "pending", due_at=FAR)])
    assert await store.next_due("billing") == FAR
    assert len(await lease(store, now=10**14, until=10**14 + 30)) == 1


async def test_a_held_delivery_is_counted_as_pending(store: Store) -> None:
    await accept(store, ordered(), ordered(), ordered())
    assert (await store.counts())["billing"].pending == 3


async def test_releasing_the_first_delivery_does_not_free_the_next(store: Store) -> None:
    first, second = ordered(), ordered()
    deliveries = await accept_and_lease(store, first, second)
    await store.release(deliveries)
    assert events(await lease(store)) == [first.event]


async def test_after_a_crash_the_order_is_kept(store: Store, reopen: Reopen, backend: Backend) -> None:
    batch = [ordered() for _ in range(3)]
    await accept_and_lease(store, *batch)
    now = NOW + backend.takeover_after
    for arrived in batch:
        store = await reopen()
        (delivery,) = await lease(store, now=now)
        assert delivery.event == arrived.event
        assert await lease(store, now=now + 29) == []
        await store.record([result(delivery)])
    assert await store.counts() == {}


async def test_after_the_last_one_the_key_is_free(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, ordered())
    await store.record([result(delivery)])
    (receipt,) = await accept(store, ordered())
    assert receipt.held == ()


async def test_a_purge_does_not_remove_held_deliveries(store: Store) -> None:
    first, second = ordered(), ordered()
    (delivery,) = await accept_and_lease(store, first, second)
    await store.record([result(delivery)])
    purged = await store.purge(now=FAR, events_before=FAR, dead_before=FAR, limit=100)
    assert purged.events == 1
    assert events(await lease(store)) == [second.event]


async def test_retried_dead_deliveries_keep_their_order(store: Store) -> None:
    batch = [ordered() for _ in range(3)]
    await accept(store, *batch)
    for _ in batch:
        (delivery,) = await lease(store)
        await store.record([result(delivery, "dead")])
    retried = await store.retry(DeliveryQuery(), now=NOW, limit=2)
    assert retried.destinations == {"billing": 2}
    await store.retry(DeliveryQuery(), now=NOW, limit=2)
    for arrived in batch:
        (delivery,) = await lease(store)
        assert delivery.event == arrived.event
        await store.record([result(delivery)])


async def test_a_retried_dead_delivery_waits_for_the_active_one(store: Store) -> None:
    batch = [ordered() for _ in range(3)]
    (first,) = await accept_and_lease(store, *batch)
    await store.record([result(first, "dead")])
    (second,) = await lease(store)
    await store.retry(DeliveryQuery(), now=NOW, limit=10)
    assert await lease(store) == []
    await store.record([result(second)])
    assert events(await lease(store)) == [batch[0].event]


async def test_a_replayed_delivery_neither_waits_nor_holds_others(store: Store) -> None:
    first, second, third = ordered(), ordered(), ordered()
    (delivery,) = await accept_and_lease(store, first)
    await store.record([result(delivery)])
    (running,) = await accept_and_lease(store, second, third)
    await store.replay(first.event.id, ["billing"], now=NOW)
    (replayed,) = await lease(store)
    assert replayed.event == first.event
    await store.record([result(replayed)])
    assert await lease(store) == []
    await store.replay(first.event.id, ["billing"], now=NOW)
    await store.record([result(running)])
    assert events(await lease(store)) == [first.event, third.event]


async def test_replaying_a_held_delivery_changes_nothing(store: Store) -> None:
    first, second = ordered(), ordered()
    await accept(store, first, second)
    assert await store.replay(second.event.id, ["billing"], now=NOW) == []
    assert events(await lease(store)) == [first.event]


@pytest.mark.parametrize("seed", range(5))
async def test_any_sequence_of_operations_keeps_the_order_of_each_key(
    store: Store, reopen: Reopen, backend: Backend, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same each time
    now = NOW
    accepted: dict[bytes, list[str]] = defaultdict(list)
    ended: dict[bytes, list[str]] = defaultdict(list)
    key_of: dict[str, bytes] = {}
    for step in range(150):
        now += 1
        if step < 100:
            for arrived in [ordered(b"%d" % chance.randrange(4)) for _ in range(chance.randrange(4))]:
                key = arrived.assignments[0].order_key or b""
                accepted[key].append(arrived.event.id)
                key_of[arrived.event.id] = key
                await accept(store, arrived)
        leased = await lease(store, now=now, limit=chance.randrange(1, 9))
        running = [key_of[each.event.id] for each in leased]
        assert len(running) == len(set(running))
        if chance.random() < 0.1:
            store = await reopen()
            continue
        for delivery in leased:
            status = chance.choice(["pending", "delivered", "delivered", "dead", "given back"])
            if status == "given back":
                await store.release([delivery])
                continue
            assert await store.record([result(delivery, status, due_at=now + chance.randrange(3), at=now)])
            if status != "pending":
                ended[key_of[delivery.event.id]].append(delivery.event.id)
    now += 10 + backend.takeover_after
    while leased := await lease(store, now=now):
        assert all(await store.record([result(each) for each in leased]))
        for delivery in leased:
            ended[key_of[delivery.event.id]].append(delivery.event.id)
        now += 10
    assert ended == accepted


@pytest.mark.case("F-11")
async def test_all_held_deliveries_of_a_destination_can_be_made_due_in_steps(store: Store) -> None:
    batch = [ordered() for _ in range(5)]
    other = [ordered(to=("ledger",)) for _ in range(2)]
    await accept(store, *batch, *other)
    (running,) = await lease(store)

    assert await store.free_held("billing", limit=3) == 3
    assert await store.free_held("billing", limit=3) == 1
    assert await store.free_held("billing", limit=3) == 0

    freed = await lease(store)
    assert {each.event.id for each in freed} == {each.event.id for each in batch[1:]}
    # No delivery holds another any more, and the end of one makes none due twice.
    await store.record([result(each, "delivered") for each in (running, *freed)])
    assert await lease(store, now=FAR) == []
    assert len(await lease(store, "ledger")) == 1
