"""Every store retries, replays and pauses as `Store.retry`, `replay` and `pause` say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.store.base import Counts
from gatehouse.store.records import DeliveryQuery, EventQuery, Retried

if TYPE_CHECKING:
    from conformance.conftest import Reopen
    from gatehouse.store.base import Arrival, Delivery, Store

LATER = NOW + 10 * 86400


async def dead(store: Store, *arrivals: Arrival, at: float = NOW) -> None:
    """Accept events, and record all their deliveries as dead."""
    await accept(store, *arrivals)
    for name in {each.destination for arrived in arrivals for each in arrived.assignments}:
        while leased := await lease(store, name, now=at):
            await store.record([result(each, "dead", at=at) for each in leased])


async def retry(store: Store, *, limit: int = 100, now: float = LATER, **query: str) -> Retried:
    return await store.retry(DeliveryQuery(**query), now=now, limit=limit)  # type: ignore[arg-type]


def tried(delivery: Delivery) -> tuple[int, float, int]:
    return delivery.attempts, delivery.since, delivery.earlier


async def test_give_up_after_counts_from_when_the_event_was_received(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival(of=event(received=NOW - 5)))
    assert tried(delivery) == (0, NOW - 5, 0)


async def test_a_retried_dead_delivery_is_due_at_once_and_starts_over(store: Store) -> None:
    (first,) = await accept_and_lease(store, arrival())
    await store.record([result(first, "pending", due_at=NOW)])
    (second,) = await lease(store)
    await store.record([result(second, "dead")])
    assert await retry(store) == Retried({"billing": 1}, done=True)
    assert await store.counts() == {"billing": Counts(pending=1, dead=0, oldest_pending=NOW)}
    assert await store.next_due("billing") == LATER
    (delivery,) = await lease(store, now=LATER)
    assert tried(delivery) == (2, LATER, 2)


async def test_the_start_of_give_up_after_survives_another_attempt(store: Store, reopen: Reopen) -> None:
    await dead(store, arrival())
    await retry(store)
    (delivery,) = await lease(store, now=LATER)
    await store.record([result(delivery, "pending", due_at=LATER)])
    store = await reopen()
    (delivery,) = await lease(store, now=LATER)
    assert tried(delivery) == (2, LATER, 1)


@pytest.mark.case("O-14")
async def test_a_second_retry_finds_no_dead_deliveries(store: Store) -> None:
    await dead(store, arrival())
    assert (await retry(store)).destinations == {"billing": 1}
    assert await retry(store) == Retried({}, done=True)


@pytest.mark.case("O-14")
async def test_two_concurrent_retries_count_once(store: Store) -> None:
    await dead(store, *[arrival() for _ in range(20)])
    both = await asyncio.gather(retry(store), retry(store))
    assert sum(each.destinations.get("billing", 0) for each in both) == 20
    assert len(await lease(store, now=LATER)) == 20


async def test_only_dead_deliveries_are_retried(store: Store) -> None:
    delivered, waiting, _ = await accept_and_lease(store, arrival(), arrival(), arrival())
    await store.record([result(delivered), result(waiting, "pending", due_at=LATER + 5)])
    await dead(store, arrival())
    assert (await retry(store, status="delivered")).destinations == {"billing": 1}
    assert (await store.counts())["billing"].pending == 3


async def test_a_retry_goes_in_steps_until_it_is_done(store: Store) -> None:
    await dead(store, *[arrival(to=["billing", "ledger"]) for _ in range(10)])
    steps: list[Retried] = []
    while not steps or not steps[-1].done:
        steps.append(await retry(store, limit=7))
    assert [sum(step.destinations.values()) for step in steps] == [7, 7, 6]
    assert {name: each.pending for name, each in (await store.counts()).items()} == {
        "billing": 10,
        "ledger": 10,
    }


async def test_a_delivery_that_dies_again_during_a_retry_is_not_retried_again(store: Store) -> None:
    await dead(store, *[arrival() for _ in range(10)])
    steps = 0
    done = False
    while not done:
        done = (await retry(store, limit=3)).done
        leased = await lease(store, now=LATER + 1)
        await store.record([result(each, "dead", at=LATER + 1) for each in leased])
        steps += 1
    assert steps == 4
    assert (await retry(store, now=LATER + 1)).destinations == {"billing": 10}


async def test_a_retry_takes_the_deliveries_that_match_its_filter(store: Store) -> None:
    wanted = arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 5))
    others = [
        arrival(to=["b"], of=event(source="shop", event_type="order.paid", received=NOW + 5)),
        arrival(to=["a"], of=event(source="pos", event_type="order.paid", received=NOW + 5)),
        arrival(to=["a"], of=event(source="shop", event_type="order.open", received=NOW + 5)),
        arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 4)),
        arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 6)),
    ]
    await dead(store, wanted, *others, at=NOW + 10)
    query = DeliveryQuery(destination="a", source="shop", type="order.p*", since=NOW + 5, until=NOW + 6)
    assert await store.retry(query, now=LATER, limit=10) == Retried({"a": 1}, done=True)
    (delivery,) = await lease(store, "a", now=LATER)
    assert delivery.event == wanted.event


async def test_one_delivery_of_one_event_is_retried(store: Store) -> None:
    first, second = arrival(to=["a", "b"]), arrival(to=["a", "b"])
    await dead(store, first, second)
    assert await retry(store, event_id=second.event.id, destination="b") == Retried({"b": 1}, done=True)
    assert await retry(store, event_id=first.event.id) == Retried({"a": 1, "b": 1}, done=True)
    assert await retry(store, event_id=event().id) == Retried({}, done=True)


async def test_a_retry_finds_the_few_matches_among_many_dead_deliveries(store: Store) -> None:
    arrivals = [arrival(of=event(event_type="rare" if n in {3, 11_990} else "x")) for n in range(12_000)]
    await dead(store, *arrivals)
    assert await retry(store, type="rare") == Retried({"billing": 2}, done=True)


async def test_a_replay_delivers_again(store: Store) -> None:
    arrived = arrival(to=["billing", "ledger"])
    (delivery,) = await accept_and_lease(store, arrived)
    await store.record([result(delivery)])
    assert await store.replay(arrived.event.id, ["billing"], now=LATER) == ["billing"]
    (again,) = await lease(store, now=LATER)
    assert again.event == arrived.event
    assert tried(again) == (1, LATER, 1)


async def test_a_replay_revives_a_dead_delivery(store: Store) -> None:
    arrived = arrival()
    await dead(store, arrived)
    assert await store.replay(arrived.event.id, ["billing"], now=LATER) == ["billing"]
    assert await store.counts() == {"billing": Counts(pending=1, dead=0, oldest_pending=NOW)}


async def test_a_replay_delivers_for_the_first_time(store: Store) -> None:
    arrived = arrival(to=[])
    await accept(store, arrived)
    assert await store.replay(arrived.event.id, ["ledger", "billing"], now=LATER) == ["ledger", "billing"]
    (delivery,) = await lease(store, "ledger", now=LATER)
    assert delivery.event == arrived.event
    assert tried(delivery) == (0, LATER, 0)


@pytest.mark.case("O-14")
async def test_a_second_replay_of_a_pending_delivery_changes_nothing(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    await store.record([result(delivery)])
    event_id = delivery.event.id
    both = await asyncio.gather(*[store.replay(event_id, ["billing"], now=LATER) for _ in range(2)])
    assert sorted(both, key=str) == [["billing"], []]
    assert await store.replay(event_id, ["billing", "billing"], now=LATER) == []
    assert len(await lease(store, now=LATER)) == 1


async def test_a_replay_leaves_a_pending_delivery_and_its_lease_alone(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.replay(delivery.event.id, ["billing"], now=NOW) == []
    assert await store.record([result(delivery)]) == [True]


async def test_a_replayed_delivery_is_recorded_like_any_other(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    await store.record([result(delivery)])
    await store.replay(delivery.event.id, ["billing"], now=LATER)
    (again,) = await lease(store, now=LATER)
    assert await store.record([result(delivery)]) == [False]
    assert await store.record([result(again)]) == [True]
    assert await store.counts() == {}


async def test_an_unknown_event_can_not_be_replayed(store: Store) -> None:
    await accept(store, arrival())
    assert await store.replay(event().id, ["billing"], now=NOW) is None


async def test_a_replay_without_destinations_changes_nothing(store: Store) -> None:
    await accept(store, arrival(to=[]))
    (row,) = (await store.events(EventQuery(), limit=1)).items
    assert await store.replay(row.id, [], now=NOW) == []
    assert await store.counts() == {}


@pytest.mark.parametrize("again", ["retry", "replay"])
async def test_retried_and_replayed_deliveries_are_not_purged(store: Store, again: str) -> None:
    arrived = arrival()
    await dead(store, arrived)
    if again == "retry":
        await retry(store)
    else:
        await store.replay(arrived.event.id, ["billing"], now=LATER)
    purged = await store.purge(now=LATER, events_before=LATER, dead_before=LATER, limit=10)
    assert purged.events == 0
    assert len(await lease(store, now=LATER)) == 1


async def test_no_destination_is_paused_at_first(store: Store) -> None:
    assert await store.paused() == frozenset()


async def test_a_pause_is_stored_until_the_destination_is_resumed(store: Store, reopen: Reopen) -> None:
    for name in ("billing", "ledger", "billing"):
        await store.pause(name, paused=True)
    assert await store.paused() == {"billing", "ledger"}
    store = await reopen()
    assert await store.paused() == {"billing", "ledger"}
    await store.pause("billing", paused=False)
    await store.pause("nobody", paused=False)
    assert await store.paused() == {"ledger"}


async def test_the_store_leases_deliveries_of_a_paused_destination(store: Store) -> None:
    await store.pause("billing", paused=True)
    assert len(await accept_and_lease(store, arrival())) == 1
