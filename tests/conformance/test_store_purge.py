"""Every store removes expired data as `Store.purge` says, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.store.base import Purged

if TYPE_CHECKING:
    from gatehouse.store.base import Store


async def purge(
    store: Store, *, now: float = NOW, events: float = 0, dead: float = 0, limit: int = 1000
) -> Purged:
    """Purge with cutoffs that keep everything unless others are given."""
    return await store.purge(now=now, events_before=events, dead_before=dead, limit=limit)


async def test_an_empty_store_has_nothing_to_purge(store: Store) -> None:
    assert await purge(store, now=NOW, events=NOW, dead=NOW) == Purged(events=0, keys=0, done=True)


@pytest.mark.case("O-16")
async def test_expired_keys_are_removed(store: Store) -> None:
    await accept(store, arrival(b"1", b"a", until=NOW + 10), arrival(b"2", until=NOW + 20))
    assert (await purge(store, now=NOW + 9.9)).keys == 0
    assert (await purge(store, now=NOW + 10)).keys == 2
    assert (await purge(store, now=NOW + 20)).keys == 1


@pytest.mark.case("O-16")
async def test_delivered_events_are_removed_when_they_are_old(store: Store) -> None:
    deliveries = await accept_and_lease(store, *[arrival(of=event(received=NOW - age)) for age in (10, 5)])
    await store.record([result(each) for each in deliveries])
    assert (await purge(store, events=NOW - 10)).events == 0
    assert (await purge(store, events=NOW - 9)).events == 1
    assert (await purge(store, events=NOW)).events == 1


async def test_old_events_without_deliveries_are_removed(store: Store) -> None:
    await accept(store, arrival(to=[]))
    assert (await purge(store, events=NOW + 1)).events == 1


@pytest.mark.case("O-16")
async def test_a_pending_delivery_keeps_its_event(store: Store) -> None:
    await accept(store, arrival(to=["billing", "ledger"]), arrival(leased=True))
    (billing,) = await lease(store, limit=1)
    await store.record([result(billing, "dead")])
    assert (await purge(store, now=NOW + 10**8, events=NOW + 10**8, dead=NOW + 10**8)).events == 0
    assert len(await lease(store, "ledger")) == 1


@pytest.mark.case("O-16")
async def test_dead_letters_are_kept_for_their_own_time(store: Store) -> None:
    first, second = await accept_and_lease(store, arrival(of=event(received=NOW - 1)), arrival())
    await store.record([result(first, "dead"), result(second)])
    assert await purge(store, events=NOW + 1, dead=NOW - 2) == Purged(events=1, keys=0, done=True)
    assert (await store.counts())["billing"].dead == 1
    assert await purge(store, events=NOW + 1, dead=NOW) == Purged(events=1, keys=0, done=True)
    assert await store.counts() == {}


async def test_dead_letters_may_be_kept_for_a_shorter_time(store: Store) -> None:
    delivered, dead = await accept_and_lease(store, arrival(), arrival())
    await store.record([result(delivered), result(dead, "dead")])
    assert await purge(store, events=0, dead=NOW + 1) == Purged(events=1, keys=0, done=True)


@pytest.mark.case("O-16")
async def test_a_step_is_no_longer_than_its_limit(store: Store) -> None:
    await accept(store, *[arrival(b"%d" % number, to=[], until=NOW) for number in range(25)])
    steps: list[Purged] = []
    while not steps or not steps[-1].done:
        steps.append(await purge(store, events=NOW + 1, limit=10))
        assert steps[-1].events + steps[-1].keys <= 10
    assert sum(step.events for step in steps) == 25
    assert sum(step.keys for step in steps) == 25


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_old_events_that_are_kept_do_not_stop_the_purge_of_later_ones(store: Store, limit: int) -> None:
    await accept(store, *[arrival(of=event(received=NOW - 50 + number)) for number in range(10)])
    deliveries = await lease(store)
    await store.record([result(each) for each in deliveries[5:]])
    removed, done = 0, False
    while not done:
        step = await purge(store, events=NOW, limit=limit)
        removed, done = removed + step.events, step.done
    assert removed == 5
    assert (await store.counts())["billing"].pending == 5


async def test_the_next_purge_scans_kept_events_again(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert (await purge(store, events=NOW + 1)).done
    await store.record([result(delivery)])
    assert (await purge(store, events=NOW + 1)).events == 1


async def test_a_purged_event_leaves_nothing_behind(store: Store) -> None:
    await accept(store, arrival(b"k", to=["billing", "ledger"], until=NOW))
    for destination in ("billing", "ledger"):
        await store.record([result(each) for each in await lease(store, destination)])
    await purge(store, events=NOW + 1)
    (receipt,) = await accept(store, arrival(b"k"))
    assert receipt.status == "accepted"
    assert [each.event.id for each in await lease(store)] == [receipt.event_id]
    assert await lease(store, "ledger") == []
