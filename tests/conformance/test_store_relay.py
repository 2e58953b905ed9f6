"""Every store keeps the reply of a relayed event for its duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.builders import NOW, WINDOW, accept, arrival, event, lease
from doubles.dedupe import dedupe_keys
from gatehouse.store.base import Receipt, Reply
from gatehouse.store.records import DeliveryQuery

if TYPE_CHECKING:
    from conformance.conftest import Clock, Reopen
    from gatehouse.store.base import Store

REPLY = Reply(202, "text/xml; charset=utf-8", b"<Response/>\x00\xff")


async def test_a_relayed_event_is_stored_as_delivered(store: Store) -> None:
    relayed = arrival(b"k", to=["billing"], reply=REPLY)
    (receipt,) = await accept(store, relayed)
    assert receipt == Receipt("accepted", relayed.event.id)
    assert await store.counts() == {}
    assert await lease(store, now=NOW + 10**6) == []
    (row,) = (await store.deliveries(DeliveryQuery(), limit=10)).items
    assert (row.status, row.attempts, row.last_reason, row.last_http_status) == ("delivered", 1, "ok", 202)


@pytest.mark.parametrize(
    "reply", [REPLY, Reply(200, None, b""), Reply(200, "text/\udce9", b"x" * 65536)], ids=lambda _: ""
)
async def test_a_duplicate_gets_the_same_reply(store: Store, reply: Reply) -> None:
    first = arrival(b"k", reply=reply)
    await accept(store, first)
    (receipt,) = await accept(store, arrival(b"k", of=first.event))
    assert receipt == Receipt("duplicate", first.event.id, reply=reply)


async def test_a_duplicate_in_the_same_batch_gets_the_same_reply(store: Store) -> None:
    first = arrival(b"k", reply=REPLY)
    receipts = await accept(store, first, arrival(b"k", reply=Reply(200, None, b"another")))
    assert receipts[1] == Receipt("duplicate", first.event.id, reply=REPLY)


async def test_a_conflict_gets_the_same_reply(store: Store) -> None:
    await accept(store, arrival(b"k", reply=REPLY))
    (receipt,) = await accept(store, arrival(b"k", of=event(b"other")))
    assert (receipt.status, receipt.reply) == ("conflict", REPLY)


async def test_the_reply_survives_a_restart(store: Store, reopen: Reopen) -> None:
    await accept(store, arrival(b"k", reply=REPLY))
    store = await reopen()
    (receipt,) = await accept(store, arrival(b"k"))
    assert receipt.reply == REPLY


async def test_other_duplicates_have_no_reply(store: Store) -> None:
    receipts = await accept(store, arrival(b"k"), arrival(b"k"))
    assert [each.reply for each in receipts] == [None, None]


async def test_a_relayed_event_holds_back_no_order_key(store: Store) -> None:
    _, following = await accept(store, arrival(order=b"inv", reply=REPLY), arrival(order=b"inv"))
    assert following.held == ()


async def test_a_purge_takes_the_reply_with_the_event(store: Store) -> None:
    first = arrival(b"k", reply=REPLY)
    await accept(store, first)
    assert (await store.purge(now=NOW, events_before=NOW + 1, dead_before=0, limit=10)).events == 1
    (receipt,) = await accept(store, arrival(b"k"))
    assert receipt == Receipt("duplicate", first.event.id)


async def test_known_returns_the_receipt_of_a_duplicate(store: Store) -> None:
    first, relayed = arrival(b"1", None), arrival(b"2", b"b", reply=REPLY)
    assert await store.known("mandato", dedupe_keys(b"1", None), now=NOW) is None
    await accept(store, first, relayed)
    assert await store.known("mandato", dedupe_keys(b"1", b"x"), now=NOW) == Receipt(
        "duplicate", first.event.id
    )
    expected = Receipt("duplicate", relayed.event.id, reply=REPLY)
    assert await store.known("mandato", dedupe_keys(None, b"b"), now=NOW) == expected
    assert await store.known("mandato", dedupe_keys(b"1", b"b"), now=NOW) == Receipt(
        "duplicate", first.event.id
    )


async def test_known_compares_source_scope_and_time_as_accept_does(store: Store, clock: Clock) -> None:
    await accept(store, arrival(b"k"))
    assert await store.known("shop", dedupe_keys(b"k"), now=NOW) is None
    assert await store.known("mandato", dedupe_keys(None, b"k"), now=NOW) is None
    assert await store.known("mandato", dedupe_keys(None), now=NOW) is None
    assert await store.known("mandato", dedupe_keys(), now=NOW) is None
    assert await store.known("mandato", dedupe_keys(b"k"), now=NOW + WINDOW) is None
    clock.now = NOW + WINDOW
    assert (await accept(store, arrival(b"k")))[0].status == "accepted"
