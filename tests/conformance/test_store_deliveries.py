"""Every store leases, records, releases and counts deliveries, and recovers them after a crash."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.store.base import Counts

if TYPE_CHECKING:
    from conformance.conftest import Backend, Reopen
    from gatehouse.store.base import Delivery, Store


async def pending(store: Store, destination: str = "billing") -> int:
    found = (await store.counts()).get(destination)
    return found.pending if found else 0


def ids(deliveries: list[Delivery]) -> list[str]:
    return [each.event.id for each in deliveries]


async def test_a_lease_carries_the_event_and_its_end(store: Store) -> None:
    stored = event(b"body", headers=(("x-request-id", "1"),))
    await accept(store, arrival(of=stored))
    (delivery,) = await store.lease("billing", now=NOW, until=NOW + 30, limit=10)
    assert (delivery.event, delivery.destination) == (stored, "billing")
    assert (delivery.attempts, delivery.leased_until) == (0, NOW + 30)


async def test_only_deliveries_of_the_destination_are_leased(store: Store) -> None:
    await accept(store, arrival(to=["billing"]), arrival(to=["ledger"]))
    assert [each.destination for each in await lease(store, "ledger")] == ["ledger"]
    assert await lease(store, "nobody") == []


async def test_the_longest_due_are_leased_first_up_to_the_limit(store: Store) -> None:
    arrivals = [arrival(of=event(received=NOW - age)) for age in (1, 3, 2)]
    await accept(store, *arrivals)
    assert ids(await lease(store, limit=2)) == [arrivals[1].event.id, arrivals[2].event.id]
    assert ids(await lease(store, limit=2)) == [arrivals[0].event.id]


async def test_deliveries_of_one_batch_are_leased_in_order(store: Store) -> None:
    arrivals = [arrival() for _ in range(100)]
    await accept(store, *arrivals)
    assert ids(await lease(store)) == [each.event.id for each in arrivals]


async def test_a_leased_delivery_is_not_leased_again_until_the_lease_ends(store: Store) -> None:
    await accept_and_lease(store, arrival())
    assert await lease(store, now=NOW + 29.9) == []
    (again,) = await lease(store, now=NOW + 30)
    assert (again.attempts, again.leased_until) == (1, NOW + 60)  # an attempt may have been made in that time


async def test_concurrent_leases_never_share_a_delivery(store: Store) -> None:
    await accept(store, *[arrival() for _ in range(50)])
    batches = await asyncio.gather(*[lease(store, limit=10) for _ in range(6)])
    found = [each for batch in batches for each in ids(batch)]
    assert len(found) == len(set(found)) == 50


@pytest.mark.parametrize("status", ["delivered", "dead"])
async def test_a_finished_delivery_is_never_due_again(store: Store, status: str) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.record([result(delivery, status)]) == [True]
    assert await lease(store, now=NOW + 10**6) == []
    assert await store.next_due("billing") is None


async def test_a_delivery_recorded_as_pending_waits_until_it_is_due(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.record([result(delivery, "pending", due_at=NOW + 5)]) == [True]
    assert await lease(store, now=NOW + 4.9) == []
    (again,) = await lease(store, now=NOW + 5)
    assert again.attempts == 1


async def test_each_result_of_a_batch_is_recorded(store: Store) -> None:
    first, second, third = await accept_and_lease(store, arrival(), arrival(), arrival())
    results = [result(first), result(second, "dead"), result(third, "pending", due_at=NOW + 5)]
    assert await store.record(results) == [True, True, True]
    assert await store.counts() == {"billing": Counts(pending=1, dead=1, oldest_pending=NOW)}


async def test_results_of_many_deliveries_are_recorded(store: Store) -> None:
    deliveries = await accept_and_lease(store, *[arrival() for _ in range(600)])
    assert await store.record([result(each) for each in deliveries]) == [True] * 600
    assert await store.counts() == {}


async def test_an_empty_list_of_results_or_leases_is_not_an_error(store: Store) -> None:
    assert await store.record([]) == []
    await store.release([])


async def test_a_leased_arrival_is_recorded_with_the_lease_of_its_receipt(store: Store) -> None:
    arrived = arrival(leased=True)
    (receipt,) = await accept(store, arrived)
    (delivery,) = await accept_and_lease(store, arrival())
    handed_over = type(delivery)(arrived.event, "billing", 0, receipt.leased_until, token=receipt.token)
    assert await store.record([result(handed_over)]) == [True]
    assert await pending(store) == 1


async def test_a_result_after_the_lease_ended_is_recorded_if_nobody_leased_the_delivery_again(
    store: Store,
) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.record([result(delivery, at=NOW + 100)]) == [True]


@pytest.mark.case("D-09")
async def test_a_lost_lease_changes_nothing(store: Store) -> None:
    """A process whose lease ran out must not overwrite what the next one records."""
    (old,) = await accept_and_lease(store, arrival())
    (new,) = await lease(store, now=NOW + 31)
    assert await store.record([result(old, "dead")]) == [False]
    assert await store.counts() == {"billing": Counts(pending=1, dead=0, oldest_pending=NOW)}
    assert await store.record([result(new)]) == [True]


async def test_a_lost_lease_does_not_affect_other_results_of_the_batch(store: Store) -> None:
    first, second = await accept_and_lease(store, arrival(), arrival())
    await store.record([result(first)])
    assert await store.record([result(first), result(second)]) == [False, True]
    assert await pending(store) == 0


async def test_a_lease_can_be_used_only_once(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    assert await store.record([result(delivery, "pending"), result(delivery, "dead")]) == [True, False]
    assert await store.record([result(delivery, "dead")]) == [False]
    assert await pending(store) == 1


async def test_a_delivery_that_was_never_leased_can_not_be_recorded(store: Store) -> None:
    (known,) = await accept_and_lease(store, arrival())
    await store.release([known])
    unleased = type(known)(known.event, known.destination, 0, 0.0)
    strangers = [
        type(known)(event(), "billing", 0, NOW + 30, token=known.token),
        type(known)(known.event, "ledger", 0, NOW + 30, token=known.token),
    ]
    assert await store.record([result(each) for each in (unleased, *strangers)]) == [False] * 3
    assert await pending(store) == 1


async def test_a_released_delivery_is_due_at_once_with_its_attempts(store: Store) -> None:
    (delivery,) = await accept_and_lease(store, arrival())
    await store.record([result(delivery, "pending", due_at=NOW + 5)])
    (retried,) = await lease(store, now=NOW + 5)
    await store.release([retried])
    (again,) = await lease(store, now=NOW + 5)
    assert again.attempts == 1


async def test_a_lost_lease_can_not_be_released(store: Store) -> None:
    (old,) = await accept_and_lease(store, arrival())
    await lease(store, now=NOW + 30)
    await store.release([old])
    assert await lease(store, now=NOW + 31) == []


async def test_next_due_is_when_the_next_one_can_be_leased(store: Store) -> None:
    assert await store.next_due("billing") is None
    first, second = await accept_and_lease(store, arrival(), arrival())
    assert await store.next_due("billing") == NOW + 30
    await store.record([result(first, "pending", due_at=NOW + 100)])
    assert await store.next_due("billing") == NOW + 30
    await store.record([result(second)])
    assert await store.next_due("billing") == NOW + 100
    assert await store.next_due("ledger") is None


async def test_next_due_is_in_the_past_for_a_due_delivery(store: Store) -> None:
    await accept(store, arrival(of=event(received=NOW - 10)))
    due = await store.next_due("billing")
    assert due is not None
    assert due <= NOW


async def test_a_destination_has_counts_as_long_as_it_has_deliveries(store: Store) -> None:
    await accept(store, *[arrival(of=event(received=NOW - age)) for age in (20, 10)], arrival(to=["ledger"]))
    first, second = await lease(store)
    assert await store.counts() == {
        "billing": Counts(pending=2, dead=0, oldest_pending=NOW - 20),
        "ledger": Counts(pending=1, dead=0, oldest_pending=NOW),
    }
    await store.record([result(first, "dead"), result(second, "dead")])
    assert (await store.counts())["billing"] == Counts(pending=0, dead=2, oldest_pending=None)


async def test_after_a_crash_a_leased_delivery_is_due_and_one_attempt_is_added(
    store: Store, reopen: Reopen, backend: Backend
) -> None:
    """An attempt may have been in progress, and the attempts of a delivery only grow."""
    await accept_and_lease(store, arrival())
    for attempts in (1, 2, 3):
        store = await reopen()
        (delivery,) = await lease(store, now=NOW + attempts * backend.takeover_after)
        assert delivery.attempts == attempts


async def test_after_a_crash_an_arrival_that_was_leased_is_due(
    store: Store, reopen: Reopen, backend: Backend
) -> None:
    arrived = arrival(leased=True)
    await accept(store, arrived)
    store = await reopen()
    (delivery,) = await lease(store, now=NOW + backend.takeover_after)
    assert (delivery.event, delivery.attempts) == (arrived.event, 1)


async def test_after_a_crash_earlier_leases_are_lost(store: Store, reopen: Reopen, backend: Backend) -> None:
    (old,) = await accept_and_lease(store, arrival())
    store = await reopen()
    assert len(await lease(store, now=NOW + backend.takeover_after + 1)) == 1
    assert await store.record([result(old)]) == [False]
    assert await pending(store) == 1


async def test_a_crash_does_not_change_deliveries_that_were_not_leased(store: Store, reopen: Reopen) -> None:
    delivered, dead, later = await accept_and_lease(store, arrival(), arrival(), arrival())
    await store.record([result(delivered), result(dead, "dead"), result(later, "pending", due_at=NOW + 60)])
    await accept(store, arrival())
    store = await reopen()
    assert await store.counts() == {"billing": Counts(pending=2, dead=1, oldest_pending=NOW)}
    (untouched,) = await lease(store)
    assert untouched.attempts == 0
    await store.record([result(untouched)])
    (retried,) = await lease(store, now=NOW + 60)
    assert (retried.event, retried.attempts) == (later.event, 1)
