"""Every store accepts arrivals as `Store.accept` says, and opens, closes and answers pings."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.builders import NEVER, NOW, WINDOW, accept, arrival, event, lease, past
from gatehouse.errors import StoreUnavailableError
from gatehouse.store.base import LEASE

if TYPE_CHECKING:
    from conformance.conftest import Clock, Reopen
    from gatehouse.events.event import Event
    from gatehouse.store.base import Store


async def statuses(store: Store, *keys: tuple[bytes | None, ...]) -> list[str]:
    """Accept one arrival per tuple of keys, each in its own batch."""
    return [(await accept(store, arrival(*each)))[0].status for each in keys]


async def test_a_new_event_is_accepted_under_its_own_id(store: Store) -> None:
    first, second = arrival(b"1"), arrival(b"2")
    receipts = await accept(store, first, second)
    assert [(each.status, each.event_id) for each in receipts] == [
        ("accepted", first.event.id),
        ("accepted", second.event.id),
    ]


async def test_an_empty_batch_is_accepted(store: Store) -> None:
    assert await accept(store) == []


async def test_a_known_key_makes_a_duplicate_that_names_the_first_event(store: Store) -> None:
    first = arrival(b"k")
    await accept(store, first)
    (receipt,) = await accept(store, arrival(b"k"))
    assert (receipt.status, receipt.event_id) == ("duplicate", first.event.id)


async def test_one_known_key_is_enough_for_a_duplicate(store: Store) -> None:
    await accept(store, arrival(b"delivery-1", b"event-1"))
    assert await statuses(store, (b"delivery-2", b"event-1"), (b"delivery-1", None)) == ["duplicate"] * 2


async def test_a_duplicate_is_neither_stored_nor_delivered(store: Store) -> None:
    await accept(store, arrival(b"k"))
    await accept(store, arrival(b"k", to=["billing", "ledger"]))
    assert {name: each.pending for name, each in (await store.counts()).items()} == {"billing": 1}


async def test_a_repetition_within_one_batch_is_a_duplicate(store: Store) -> None:
    first = arrival(b"k")
    receipts = await accept(store, first, arrival(b"other"), arrival(b"k"))
    assert [each.status for each in receipts] == ["accepted", "accepted", "duplicate"]
    assert receipts[2].event_id == first.event.id


async def test_64_identical_arrivals_in_one_batch_are_one_event(store: Store) -> None:
    receipts = await accept(store, *[arrival(b"delivery", b"event") for _ in range(64)])
    assert [each.status for each in receipts] == ["accepted"] + ["duplicate"] * 63
    assert len({each.event_id for each in receipts}) == 1
    assert len(await lease(store)) == 1


@pytest.mark.case("D-05")
async def test_64_identical_arrivals_at_once_are_one_event(store: Store) -> None:
    batches = await asyncio.gather(*[accept(store, arrival(b"delivery", b"event")) for _ in range(64)])
    receipts = [receipt for batch in batches for receipt in batch]
    assert sorted(each.status for each in receipts) == ["accepted"] + ["duplicate"] * 63
    assert len({each.event_id for each in receipts}) == 1
    assert len(await lease(store)) == 1


async def test_the_same_key_of_another_source_is_another_key(store: Store) -> None:
    await accept(store, arrival(b"k", of=event(source="shop")))
    (receipt,) = await accept(store, arrival(b"k", of=event(source="shop-eu")))
    assert receipt.status == "accepted"


async def test_the_same_key_at_another_place_is_another_key(store: Store) -> None:
    assert await statuses(store, (b"k", None), (None, b"k")) == ["accepted", "accepted"]


@pytest.mark.case("D-15")
async def test_scopes_and_keys_that_concatenate_to_the_same_bytes_are_not_confused(store: Store) -> None:
    assert await statuses(store, (b"ab", b"c"), (b"a", b"bc"), (b"abc",)) == ["accepted"] * 3


@pytest.mark.case("D-15")
async def test_sources_and_keys_that_concatenate_to_the_same_text_are_not_confused(store: Store) -> None:
    pairs = [("a:b", b"c"), ("a", b"b:c"), ("a-b", b"c"), ("a", b"-bc"), ("", b"a:b:c")]
    receipts = [(await accept(store, arrival(key, of=event(source=source))))[0] for source, key in pairs * 2]
    assert [each.status for each in receipts] == ["accepted"] * 5 + ["duplicate"] * 5


@pytest.mark.parametrize(
    ("key", "other"),
    [
        (b"\x00", b"\x00\x00"),
        (b"a\x00b", b"a\x00c"),
        (b"\xff\xfe", b"\xff\xff"),
        (b"K", b"k"),
        (b"k" * 5000 + b"1", b"k" * 5000 + b"2"),
        (b"12", b"12.0"),
    ],
    ids=["nul", "inner nul", "not utf-8", "case", "long", "number"],
)
async def test_keys_are_compared_byte_by_byte(store: Store, key: bytes, other: bytes) -> None:
    assert await statuses(store, (key,), (other,), (key,)) == ["accepted", "accepted", "duplicate"]


@pytest.mark.case("D-14")
async def test_events_without_keys_are_all_new(store: Store) -> None:
    """Such events must not share an empty key."""
    same = event()
    batches = [
        [arrival(None, None, of=event(body=same.body)) for _ in range(250)],
        [arrival(of=event(body=same.body)) for _ in range(750)],
    ]
    receipts = [receipt for batch in batches for receipt in await accept(store, *batch)]
    assert {each.status for each in receipts} == {"accepted"}
    assert len(await lease(store)) == 1000


async def test_an_unknown_key_of_a_duplicate_is_not_recorded(store: Store) -> None:
    await accept(store, arrival(b"delivery-1", b"event-1"))
    await accept(store, arrival(b"made-up", b"event-1"))
    assert await statuses(store, (b"made-up", b"event-2")) == ["accepted"]


async def test_an_unknown_key_of_a_duplicate_within_one_batch_is_not_recorded(store: Store) -> None:
    sent = [arrival(b"1", b"a"), arrival(b"2", b"a"), arrival(b"2", b"b"), arrival(b"2", b"c")]
    receipts = await accept(store, *sent)
    assert [each.status for each in receipts] == ["accepted", "duplicate", "accepted", "duplicate"]
    assert receipts[3].event_id == sent[2].event.id


async def test_keys_of_two_events_make_a_duplicate_of_the_event_of_the_first_key(store: Store) -> None:
    first, second = arrival(b"1", None), arrival(None, b"b")
    await accept(store, first, second)
    (receipt,) = await accept(store, arrival(b"1", b"b"))
    assert receipt.event_id == first.event.id


@pytest.mark.case("O-17")
async def test_an_expired_key_is_unknown_and_is_recorded_for_the_new_event(
    store: Store, clock: Clock
) -> None:
    await accept(store, arrival(b"k", until=NOW + 100))
    clock.now = NOW + 100
    second = arrival(b"k", until=NOW + 200)
    assert (await accept(store, second))[0].status == "accepted"
    (receipt,) = await accept(store, arrival(b"k"))
    assert (receipt.status, receipt.event_id) == ("duplicate", second.event.id)


@pytest.mark.case("O-17")
async def test_a_duplicate_does_not_extend_the_window(store: Store, clock: Clock) -> None:
    await accept(store, arrival(b"k", until=NOW + 100))
    clock.now = NOW + 99
    assert (await accept(store, arrival(b"k", until=NOW + 1000)))[0].status == "duplicate"
    clock.now = NOW + 100
    assert (await accept(store, arrival(b"k")))[0].status == "accepted"


async def test_a_dedupe_window_that_ended_before_arrival_makes_no_duplicate(store: Store) -> None:
    receipts = await accept(store, arrival(b"k", until=NOW), arrival(b"k", until=NOW))
    assert [each.status for each in receipts] == ["accepted", "accepted"]


async def test_a_known_key_with_another_body_is_a_conflict(store: Store) -> None:
    first = arrival(b"k", of=event(b"one"))
    await accept(store, first)
    receipts = await accept(store, arrival(b"k", of=event(b"two")), arrival(b"k", of=event(b"one")))
    assert [each.status for each in receipts] == ["conflict", "duplicate"]
    assert {each.event_id for each in receipts} == {first.event.id}


async def test_a_conflict_within_one_batch_is_detected(store: Store) -> None:
    receipts = await accept(store, arrival(b"k", of=event(b"one")), arrival(b"k", of=event(b"two")))
    assert [each.status for each in receipts] == ["accepted", "conflict"]


async def test_a_key_outlives_its_event_and_still_makes_a_duplicate(store: Store) -> None:
    first = arrival(b"k", to=[], of=event(b"one"))
    await accept(store, first)
    assert (await store.purge(now=NOW, events_before=NOW + 1, dead_before=0, limit=100)).events == 1
    (receipt,) = await accept(store, arrival(b"k", of=event(b"two")))
    assert (receipt.status, receipt.event_id) == ("duplicate", first.event.id)


async def test_each_assignment_makes_one_delivery(store: Store) -> None:
    await accept(store, arrival(to=["billing", "ledger"]), arrival(to=["ledger"]))
    assert {name: each.pending for name, each in (await store.counts()).items()} == {
        "billing": 1,
        "ledger": 2,
    }


async def test_a_repeated_assignment_makes_one_delivery(store: Store) -> None:
    await accept(store, arrival(to=["billing", "billing"]))
    assert len(await lease(store)) == 1


async def test_a_leased_assignment_is_leased_until_the_time_in_the_receipt(store: Store) -> None:
    (receipt,) = await accept(store, arrival(leased=True))
    assert receipt.leased_until == NOW + LEASE
    assert await lease(store, now=NOW + LEASE - 1) == []
    (delivery,) = await lease(store, now=NOW + LEASE)
    assert delivery.attempts == 1  # an attempt may have been made without a recorded result


async def test_a_receipt_without_a_lease_has_no_lease_time(store: Store) -> None:
    receipts = await accept(store, arrival(b"k"), arrival(b"k", leased=True), arrival(to=[]))
    assert [each.leased_until for each in receipts] == [0.0, 0.0, 0.0]


async def test_a_batch_of_any_size_is_accepted(store: Store) -> None:
    arrivals = [arrival(b"%d" % number, b"x%d" % number) for number in range(2000)]
    assert {each.status for each in await accept(store, *arrivals)} == {"accepted"}
    assert {each.status for each in await accept(store, *arrivals)} == {"duplicate"}


@pytest.mark.case("D-07")
async def test_a_batch_past_its_deadline_writes_nothing_and_its_retry_is_new(store: Store) -> None:
    """An event that got 503 is not written later."""
    with pytest.raises(StoreUnavailableError):
        await store.accept([arrival(b"k")], deadline=past())
    assert await store.counts() == {}
    assert await statuses(store, (b"k",)) == ["accepted"]


async def test_a_late_batch_does_not_fail_other_batches(store: Store) -> None:
    outcomes = await asyncio.gather(
        store.accept([arrival(b"1")], deadline=NEVER),
        store.accept([arrival(b"2")], deadline=past()),
        store.accept([arrival(b"3")], deadline=time.monotonic() + 10),
        return_exceptions=True,
    )
    assert [isinstance(each, StoreUnavailableError) for each in outcomes] == [False, True, False]
    assert len(await lease(store)) == 2


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
#: aiohttp decodes header bytes that are not UTF-8 to lone surrogates.
header_texts = st.binary(max_size=40).map(lambda value: value.decode("utf-8", "surrogateescape"))


@st.composite
def events(draw: st.DrawFn) -> Event:
    body = draw(st.binary(max_size=3000))
    bounds = sorted(draw(st.lists(st.integers(0, len(body)), min_size=2, max_size=2)))
    return event(
        body,
        received=NOW + draw(st.integers(0, 10**9)) / 1000,
        content_type=draw(st.none() | header_texts),
        headers=tuple(draw(st.lists(st.tuples(texts, header_texts), max_size=5))),
        subject=draw(st.none() | texts),
        data_span=draw(st.none() | st.just((bounds[0], bounds[1]))),
        data_is_json=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=events())
async def test_an_event_is_read_back_unchanged(store: Store, stored: Event) -> None:
    await accept(store, arrival(of=stored))
    (delivery,) = await lease(store, now=NOW + 10**7)
    assert delivery.event == stored


async def test_a_body_of_a_megabyte_is_read_back_unchanged(store: Store) -> None:
    body = bytes(range(256)) * 4096
    await accept(store, arrival(of=event(body)))
    (delivery,) = await lease(store)
    assert delivery.event.body == body


async def test_accepted_events_survive_a_restart(store: Store, reopen: Reopen) -> None:
    first = arrival(b"k")
    await accept(store, first)
    store = await reopen()
    (receipt,) = await accept(store, arrival(b"k"))
    assert (receipt.status, receipt.event_id) == ("duplicate", first.event.id)
    assert [each.event for each in await lease(store)] == [first.event]
    assert await statuses(store, (b"new",)) == ["accepted"]


async def test_keys_are_kept_until_they_expire(store: Store, reopen: Reopen, clock: Clock) -> None:
    await accept(store, arrival(b"k"))
    clock.now = NOW + WINDOW - 0.001
    store = await reopen()
    assert await statuses(store, (b"k",)) == ["duplicate"]


async def test_a_ping_returns_if_the_store_can_write(store: Store) -> None:
    await store.ping()


async def test_the_size_grows_with_the_stored_events(store: Store) -> None:
    before = store.size()
    await accept(store, arrival(of=event(b"x" * 1_000_000)))
    await store.counts()
    assert store.size() >= before + 1_000_000


async def test_close_waits_for_running_calls(store: Store, reopen: Reopen) -> None:
    asked = [asyncio.create_task(accept(store, arrival())) for _ in range(20)]
    await asyncio.sleep(0)
    store = await reopen()
    assert {each.status for batch in await asyncio.gather(*asked) for each in batch} == {"accepted"}
    assert len(await lease(store)) == 20


async def test_a_closed_store_is_unavailable_and_can_be_closed_again(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await accept(store, arrival())
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    with pytest.raises(StoreUnavailableError):
        await store.counts()
