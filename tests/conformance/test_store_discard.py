"""Every store discards dead letters as `Store.discard` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.store.base import Counts
from gatehouse.store.records import DeliveryQuery, EventQuery, Retried

if TYPE_CHECKING:
    from conformance.conftest import Reopen
    from gatehouse.store.base import Store

LATER = NOW + 3600


async def die(store: Store, *names: str, at: float = NOW) -> None:
    for name in names:
        await store.record([result(each, "dead", at=at) for each in await lease(store, name, now=at)])


async def discard(store: Store, *, limit: int = 100, now: float = LATER, **query: str) -> Retried:
    wanted = DeliveryQuery(**query)  # type: ignore[arg-type]
    return await store.discard(wanted, note="a test — käse", by="alice", now=now, limit=limit)


async def test_a_discarded_delivery_keeps_the_note_and_who_wrote_it(store: Store, reopen: Reopen) -> None:
    one = event()
    await accept(store, arrival(of=one))
    await die(store, "billing")
    assert await discard(store) == Retried({"billing": 1}, done=True)
    store = await reopen()
    stored = await store.event(one.id)
    assert stored is not None
    (delivery,) = stored.deliveries
    assert (delivery.status, delivery.note, delivery.discarded_by) == ("discarded", "a test — käse", "alice")
    assert abs(delivery.updated - LATER) < 2


async def test_a_discarded_delivery_is_no_dead_letter(store: Store) -> None:
    await accept(store, arrival())
    await die(store, "billing")
    await discard(store)
    assert (await store.deliveries(DeliveryQuery(status="dead"), limit=9)).items == ()
    assert (await store.counts()).get("billing", Counts(0, 0, None)) == Counts(0, 0, None)
    assert await store.retry(DeliveryQuery(), now=LATER, limit=9) == Retried({}, done=True)
    assert await discard(store) == Retried({}, done=True)


async def test_discarded_deliveries_are_listed_by_their_status(store: Store) -> None:
    one = event()
    await accept(store, arrival(of=one, to=["billing", "ledger"]), arrival())
    await die(store, "ledger")
    await discard(store)
    (row,) = (await store.deliveries(DeliveryQuery(status="discarded"), limit=9)).items
    assert (row.event_id, row.destination) == (one.id, "ledger")
    (found,) = (await store.events(EventQuery(status="discarded"), limit=9)).items
    assert (found.id, found.pending, found.delivered, found.dead, found.discarded) == (one.id, 1, 0, 0, 1)


async def test_only_dead_deliveries_that_match_are_discarded(store: Store) -> None:
    await accept(store, arrival(to=["billing", "ledger"]), arrival(to=["slow"]))
    await die(store, "billing", "ledger")
    assert await discard(store, destination="billing") == Retried({"billing": 1}, done=True)
    assert await discard(store, destination="slow") == Retried({}, done=True)
    assert (await store.counts())["ledger"].dead == 1


async def test_many_are_discarded_in_steps(store: Store) -> None:
    await accept(store, *[arrival() for _ in range(5)])
    await die(store, "billing")
    steps = [await discard(store, limit=2) for _ in range(3)]
    assert [sum(step.destinations.values()) for step in steps] == [2, 2, 1]
    assert steps[-1].done


async def test_a_delivery_that_died_later_is_not_discarded(store: Store) -> None:
    await accept(store, arrival())
    await die(store, "billing", at=LATER)
    assert await discard(store, now=NOW) == Retried({}, done=True)


async def test_a_replay_delivers_a_discarded_event(store: Store) -> None:
    one = event()
    await accept(store, arrival(of=one))
    await die(store, "billing")
    await discard(store)
    assert await store.replay(one.id, ["billing"], now=LATER) == ["billing"]
    (delivery,) = await lease(store, now=LATER)
    assert (delivery.event.id, delivery.attempts) == (one.id, 1)
    stored = await store.event(one.id)
    assert stored is not None
    assert stored.deliveries[0].note is None


async def test_a_duplicate_does_not_revive_a_discarded_delivery(store: Store) -> None:
    one = event()
    await accept(store, arrival(b"key", of=one))
    await die(store, "billing")
    await discard(store)
    (receipt,) = await accept(store, arrival(b"key"))
    assert (receipt.status, receipt.dead) == ("duplicate", None)
    assert await store.revive({one.id: ["billing"]}, now=LATER, asked_before=LATER) == {}


async def test_a_discarded_delivery_expires_like_a_delivered_one(store: Store) -> None:
    one = event()
    await accept(store, arrival(of=one))
    await die(store, "billing")
    await discard(store)
    purged = await store.purge(now=NOW, events_before=NOW + 1, dead_before=NOW - 1, limit=9)
    assert purged.events == 1
