"""Every store revives dead deliveries of an event that its provider sends again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.store.base import Delivery, Receipt
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from gatehouse.store.base import Arrival, Store

pytestmark = pytest.mark.case("F-44")

BODY = b'{"n":1}'


async def dead(store: Store, sent: Arrival, *destinations: str) -> None:
    """Accept an event, and record its deliveries to these destinations as dead."""
    await accept(store, sent)
    for name in destinations:
        (delivery,) = await lease(store, name)
        assert await store.record([result(delivery, "dead", at=NOW + 1)]) == [True]


async def duplicate(store: Store, *keys: bytes, body: bytes = BODY) -> Receipt:
    (receipt,) = await accept(store, arrival(*keys, of=event(body)))
    return receipt


async def status(store: Store, event_id: str) -> dict[str, str]:
    rows = (await store.deliveries(DeliveryQuery(event_id=event_id), limit=9)).items
    return {row.destination: row.status for row in rows}


async def test_the_receipt_of_a_duplicate_tells_whether_a_delivery_is_dead_and_when_it_was_last_retried(
    store: Store,
) -> None:
    sent = arrival(b"1", of=event(BODY), to=("billing", "ledger"))
    await accept(store, sent)
    assert (await duplicate(store, b"1")).dead is None, "nothing is dead yet"
    (delivery,) = await lease(store)
    await store.record([result(delivery, "dead", at=NOW + 1)])

    assert await duplicate(store, b"1") == Receipt("duplicate", sent.event.id, dead=0.0)
    assert (await duplicate(store, b"1", body=b"other")).dead == 0.0
    found = await store.known("mandato", sent.keys, now=NOW)
    assert found is not None
    assert found.dead == 0.0

    await store.revive({sent.event.id: ["billing"]}, now=NOW + 5, asked_before=NOW)
    assert (await duplicate(store, b"1")).dead is None
    (again,) = await lease(store, now=NOW + 6)
    await store.record([result(again, "dead", at=NOW + 7)])
    assert (await duplicate(store, b"1")).dead == NOW + 5


async def test_revived_deliveries_are_due_at_once_and_start_over(store: Store) -> None:
    sent = arrival(b"1", of=event(BODY), to=("billing", "ledger", "audit", "late"))
    await dead(store, sent, "billing", "ledger")
    (delivered,) = await lease(store, "audit")
    await store.record([result(delivered)])

    revived = await store.revive(
        {sent.event.id: ["billing", "billing", "audit", "late", "nowhere"], "none": ["billing"]},
        now=NOW + 90,
        asked_before=NOW + 30,
    )

    assert revived == {"billing": 1}
    assert await status(store, sent.event.id) == {
        "billing": "pending",
        "ledger": "dead",
        "audit": "delivered",
        "late": "pending",
    }
    (again,) = await lease(store, now=NOW + 90)
    assert (again.since, again.attempts, again.earlier) == (NOW + 90, 1, 1)


async def test_a_delivery_that_was_retried_recently_stays_dead(store: Store) -> None:
    sent = arrival(b"1", of=event(BODY))
    await dead(store, sent, "billing")
    wanted = {sent.event.id: ["billing"]}

    async def dies_again(at: float) -> None:
        (again,) = await lease(store, now=at)
        assert await store.record([result(again, "dead", at=at)]) == [True]

    assert await store.revive(wanted, now=NOW + 2, asked_before=NOW - 58) == {"billing": 1}
    await dies_again(NOW + 3)
    assert await store.revive(wanted, now=NOW + 61, asked_before=NOW + 1) == {}
    assert await store.revive(wanted, now=NOW + 62, asked_before=NOW + 2) == {"billing": 1}
    await dies_again(NOW + 63)
    # An operator may retry at any time.
    assert (await store.retry(DeliveryQuery(), now=NOW + 64, limit=5)).destinations == {"billing": 1}


async def test_revived_deliveries_keep_their_order(store: Store) -> None:
    first, second = (arrival(b"%d" % n, of=event(BODY, received=NOW - 3 + n), order=b"k") for n in (1, 2))
    await dead(store, first, "billing")
    await accept(store, second)

    assert await store.revive({first.event.id: ["billing"]}, now=NOW + 90, asked_before=NOW) == {"billing": 1}

    async def following() -> Delivery:
        (delivery,) = await lease(store, now=NOW + 100)
        return delivery

    running = await following()
    assert running.event.id == second.event.id
    assert await store.record([result(running, at=NOW + 100)]) == [True]
    assert (await following()).event.id == first.event.id
