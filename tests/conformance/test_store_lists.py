"""Every store lists events and deliveries as `Store.events`, `event` and `deliveries` say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conformance.builders import NOW, accept, accept_and_lease, arrival, event, lease, result
from gatehouse.language.patterns import matches
from gatehouse.store import searching
from gatehouse.store.records import DeliveryQuery, DeliveryRow, EventQuery, EventRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from conformance.conftest import Clock
    from gatehouse.store.base import Arrival, Store
    from gatehouse.store.records import DeadGroup, Page, Status

    Ask = Callable[..., Awaitable[Page[Any]]]


DELIVERED: Status = "delivered"
STATUSES: tuple[Status | None, ...] = (None, "pending", "dead")


async def pages(ask: Ask, query: object, limit: int = 100) -> list[list[Any]]:
    """Return all pages of a list."""
    found: list[list[Any]] = []
    cursor: str | None = None
    while not found or cursor is not None:
        page = await ask(query, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found.append(list(page.items))
        cursor = page.cursor
    return found


async def all_of(ask: Ask, query: object, limit: int = 100) -> list[Any]:
    return [item for page in await pages(ask, query, limit) for item in page]


async def ids(ask: Ask, query: object, limit: int = 100) -> list[str]:
    """Return the events' ids of all items."""
    items = await all_of(ask, query, limit)
    return [item.id if isinstance(item, EventRow) else item.event_id for item in items]


async def one_after_the_other(store: Store, number: int, **fields: Any) -> list[str]:
    """Accept events one second apart. Returns their ids, from new to old."""
    arrivals = [arrival(of=event(received=NOW + second), **fields) for second in range(number)]
    await accept(store, *arrivals)
    return [each.event.id for each in reversed(arrivals)]


async def one_of_each(store: Store) -> dict[str, Arrival]:
    """Accept an event for each status, and bring its delivery to this status."""
    arrivals = {status: arrival() for status in ("delivered", "dead", "pending")}
    by_id = {each.event.id: status for status, each in arrivals.items()}
    deliveries = await accept_and_lease(store, *arrivals.values())
    results = [result(each, by_id[each.event.id], due_at=NOW + 60, reason="timeout") for each in deliveries]
    assert all(await store.record(results))
    return arrivals


async def test_an_empty_store_has_empty_lists(store: Store) -> None:
    for status in (*STATUSES, DELIVERED):
        assert await pages(store.events, EventQuery(status=status)) == [[]]
        assert await pages(store.deliveries, DeliveryQuery(status=status)) == [[]]
    assert await store.event(event().id) is None


async def test_a_row_of_an_event_has_its_attributes(store: Store) -> None:
    stored = event(subject="inv_1", event_type="invoice.paid")
    await accept(store, arrival(to=["a", "b", "c"], of=stored))
    for destination, status in (("a", "delivered"), ("b", "dead")):
        (delivery,) = await lease(store, destination)
        await store.record([result(delivery, status)])
    assert (await store.events(EventQuery(), limit=10)).items == (
        EventRow(
            id=stored.id,
            source="mandato",
            provider="mandato",
            external_id="evt_1",
            type="invoice.paid",
            time=stored.time,
            received=NOW,
            subject="inv_1",
            account=None,
            pending=1,
            delivered=1,
            dead=1,
            discarded=0,
        ),
    )


async def test_a_row_of_a_delivery_has_its_state(store: Store) -> None:
    arrivals = await one_of_each(store)
    rows = {row.status: row for row in await all_of(store.deliveries, DeliveryQuery())}
    assert rows["pending"] == DeliveryRow(
        event_id=arrivals["pending"].event.id,
        source="mandato",
        type="invoice.accepted",
        destination="billing",
        status="pending",
        attempts=1,
        received=NOW,
        due=NOW + 60,
        last_reason="timeout",
        last_http_status=200,
        updated=NOW,
        last_duration=0.0,
    )
    assert (rows["dead"].due, rows["delivered"].due) == (None, None)


async def test_a_delivery_that_was_not_attempted_has_no_last_outcome(store: Store) -> None:
    await accept(store, arrival())
    (row,) = await all_of(store.deliveries, DeliveryQuery())
    assert (row.attempts, row.last_reason, row.last_http_status) == (0, None, None)


async def test_a_held_delivery_is_pending_and_not_due(store: Store) -> None:
    await accept(store, arrival(order=b"k"), arrival(order=b"k", of=event(received=NOW + 1)))
    held, first = await all_of(store.deliveries, DeliveryQuery(status="pending"))
    assert (first.due, held.due) == (NOW, None)


async def test_an_event_is_shown_with_its_body_and_deliveries(store: Store) -> None:
    stored = event(b"\x00\xff", headers=(("x-id", "caf\udce9"),), content_type=None, data_span=(0, 2))
    await accept(store, arrival(to=["ledger", "billing"], of=stored), arrival())
    found = await store.event(stored.id)
    assert found is not None
    assert found.event == stored
    assert [(row.destination, row.status) for row in found.deliveries] == [
        ("billing", "pending"),
        ("ledger", "pending"),
    ]


async def test_an_event_is_shown_with_how_it_was_verified_and_when_it_was_written(
    store: Store, clock: Clock
) -> None:
    first, ordered, unknown = arrival(verified_by="HMAC-SHA256 with env:A"), arrival(order=b"k"), arrival()
    ordered = replace(ordered, verified_by="Basic and address with file:/run/b \u00e9")
    clock.now = NOW + 0.125
    await accept(store, first, unknown)
    clock.now = NOW + 2
    await accept(store, ordered)
    await store.replay(first.event.id, ["billing", "archive"], now=NOW + 3)

    found = [await store.event(each.event.id) for each in (first, unknown, ordered)]
    assert [each and (each.verified_by, each.stored) for each in found] == [
        ("HMAC-SHA256 with env:A", NOW + 0.125),
        (None, NOW + 0.125),
        ("Basic and address with file:/run/b \u00e9", NOW + 2),
    ]


async def test_an_event_without_deliveries_is_shown(store: Store) -> None:
    stored = event()
    await accept(store, arrival(to=[], of=stored))
    found = await store.event(stored.id)
    assert found is not None
    assert (found.event, found.deliveries) == (stored, ())
    assert await ids(store.events, EventQuery()) == [stored.id]
    assert await ids(store.deliveries, DeliveryQuery()) == []


@pytest.mark.parametrize("status", [None, "pending"])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_lists_go_from_the_newest_to_the_oldest(
    store: Store, status: Status | None, limit: int
) -> None:
    expected = await one_after_the_other(store, 7)
    assert await ids(store.events, EventQuery(status=status), limit) == expected
    assert await ids(store.deliveries, DeliveryQuery(status=status), limit) == expected


@pytest.mark.parametrize("status", ["dead", "delivered"])
@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_lists_of_finished_deliveries_go_from_the_newest_to_the_oldest(
    store: Store, status: Status, limit: int
) -> None:
    expected = await one_after_the_other(store, 7)
    await store.record([result(each, status) for each in await lease(store, now=NOW + 10)])
    assert await ids(store.events, EventQuery(status=status), limit) == expected
    assert await ids(store.deliveries, DeliveryQuery(status=status), limit) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_a_page_may_end_between_the_deliveries_of_an_event(
    store: Store, limit: int, status: Status | None
) -> None:
    await accept(store, *[arrival(to=["a", "b", "c"]) for _ in range(3)])
    if status == "dead":
        for name in "abc":
            await store.record([result(each, "dead") for each in await lease(store, name)])
    rows = await all_of(store.deliveries, DeliveryQuery(status=status), limit)
    assert len({(row.event_id, row.destination) for row in rows}) == len(rows) == 9


@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_events_that_arrive_between_two_pages_do_not_shift_them(
    store: Store, status: Status | None
) -> None:
    expected = await one_after_the_other(store, 4)
    if status == "dead":
        await store.record([result(each, "dead") for each in await lease(store, now=NOW + 10)])
    query = DeliveryQuery(status=status)
    first = await store.deliveries(query, limit=2)
    await accept(store, arrival(of=event(received=NOW + 100)))
    second = await store.deliveries(query, limit=2, cursor=first.cursor)
    assert [row.event_id for row in (*first.items, *second.items)] == expected


@pytest.mark.parametrize(
    "cursor", ["", "x", "!", "e30", "WzFd", "WzEsMl0", "WyJhIiwxXQ", "W10", "\udcff", "é", "A" * 5000]
)
@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_an_invalid_cursor_is_refused(store: Store, cursor: str, status: Status | None) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await store.events(EventQuery(status=status), limit=10, cursor=cursor)
    with pytest.raises(ValueError, match="cursor"):
        await store.deliveries(DeliveryQuery(status=status), limit=10, cursor=cursor)


async def test_a_cursor_of_another_list_is_refused_or_harmless(store: Store) -> None:
    await one_after_the_other(store, 3)
    cursor = (await store.events(EventQuery(status="pending"), limit=1)).cursor
    try:
        page = await store.events(EventQuery(), limit=1, cursor=cursor)
    except ValueError as error:
        assert "cursor" in str(error)  # noqa: PT017 - the one or the other
    else:
        assert len(page.items) == 1


async def test_deliveries_are_found_by_each_of_their_attributes(store: Store) -> None:
    wanted = arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 5))
    others = [
        arrival(to=["b"], of=event(source="shop", event_type="order.paid", received=NOW + 5)),
        arrival(to=["a"], of=event(source="pos", event_type="order.paid", received=NOW + 5)),
        arrival(to=["a"], of=event(source="shop", event_type="order.open", received=NOW + 5)),
        arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 4.999)),
        arrival(to=["a"], of=event(source="shop", event_type="order.paid", received=NOW + 6)),
    ]
    await accept(store, wanted, *others)
    query: dict[str, Any] = {
        "destination": "a",
        "source": "shop",
        "type": "order.p*",
        "since": NOW + 5,
        "until": NOW + 6,
    }
    for status in STATUSES:
        if status == "dead":
            for name in "ab":
                leased = await lease(store, name, now=NOW + 100)
                await store.record([result(each, "dead") for each in leased])
        found = await ids(store.deliveries, DeliveryQuery(**query, status=status), 1)
        assert found == [wanted.event.id]
        for left_out in query:
            fewer = {name: value for name, value in query.items() if name != left_out}
            found = await ids(store.deliveries, DeliveryQuery(**fewer, status=status), 1)
            assert len(found) == 2, left_out


async def test_events_are_found_by_each_of_their_attributes(store: Store) -> None:
    wanted = arrival(of=event(source="shop", event_type="order.paid", received=NOW + 5))
    others = [
        arrival(of=event(source="pos", event_type="order.paid", received=NOW + 5)),
        arrival(of=event(source="shop", event_type="order.open", received=NOW + 5)),
        arrival(of=event(source="shop", event_type="order.paid", received=NOW + 4.999)),
        arrival(of=event(source="shop", event_type="order.paid", received=NOW + 6)),
    ]
    await accept(store, wanted, *others)
    query: dict[str, Any] = {"source": "shop", "type": "order.p*", "since": NOW + 5, "until": NOW + 6}
    for status in STATUSES:
        if status == "dead":
            leased = await lease(store, now=NOW + 100)
            await store.record([result(each, "dead") for each in leased])
        assert await ids(store.events, EventQuery(**query, status=status), 1) == [wanted.event.id]
        for left_out in query:
            fewer = {name: value for name, value in query.items() if name != left_out}
            found = await ids(store.events, EventQuery(**fewer, status=status), 1)
            assert len(found) == 2, left_out


@pytest.mark.parametrize("status", ["pending", "delivered", "dead"])
async def test_events_are_found_by_the_status_of_a_delivery(store: Store, status: Status) -> None:
    arrivals = await one_of_each(store)
    assert await ids(store.events, EventQuery(status=status)) == [arrivals[status].event.id]
    assert await ids(store.deliveries, DeliveryQuery(status=status)) == [arrivals[status].event.id]


@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_an_event_is_listed_once_however_many_deliveries_it_has(
    store: Store, status: Status | None
) -> None:
    await accept(store, arrival(to=["a", "b"]))
    if status == "dead":
        for name in "ab":
            await store.record([result(each, "dead") for each in await lease(store, name)])
    assert len(await ids(store.events, EventQuery(status=status))) == 1


@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_the_deliveries_of_one_event_are_found_by_its_id(store: Store, status: Status | None) -> None:
    await accept(store, *[arrival(to=["a", "b"]) for _ in range(3)])
    wanted = (await store.events(EventQuery(), limit=10)).items[1].id
    if status == "dead":
        for name in "ab":
            await store.record([result(each, "dead") for each in await lease(store, name)])
    assert await ids(store.deliveries, DeliveryQuery(event_id=wanted, status=status), 1) == [wanted] * 2
    assert await ids(store.deliveries, DeliveryQuery(event_id=event().id, status=status)) == []


async def test_dead_deliveries_are_counted_by_destination_reason_and_status(store: Store) -> None:
    outcomes = [("timeout", None), ("server_error", 500), ("server_error", 503)]
    arrivals = [
        arrival(to=["a", "b"], of=event(source=f"s{number % 2}", received=NOW + number))
        for number in range(9)
    ]
    await accept(store, *arrivals, arrival(to=["a"]))
    ids_in_order = [each.event.id for each in arrivals]
    expected: dict[tuple[Any, ...], list[float]] = {}
    for name in "ab":
        for leased in await lease(store, name):
            number = ids_in_order.index(leased.event.id) if leased.event.id in ids_in_order else None
            reason, http_status = outcomes[(number or 0) % 3]
            ended = result(leased, "pending" if number is None else "dead", due_at=NOW + 60, reason=reason)
            assert all(await store.record([msgspec.structs.replace(ended, http_status=http_status)]))
            if number is not None:
                key = name, reason, http_status, number % 2
                expected.setdefault(key, []).append(leased.event.received)
    assert await groups_of(store, DeliveryQuery()) == summed(expected, lambda _: True)
    assert await groups_of(store, DeliveryQuery(destination="a", status="pending")) == summed(
        expected, lambda key: key[0] == "a"
    )
    assert await groups_of(store, DeliveryQuery(source="s1", type="invoice.*")) == summed(
        expected, lambda key: key[3] == 1
    )
    late = {key: [time for time in times if time >= NOW + 5] for key, times in expected.items()}
    assert await groups_of(store, DeliveryQuery(reason="server_error", http_status=503, since=NOW + 5)) == (
        summed({key: times for key, times in late.items() if times}, lambda key: key[2] == 503)
    )
    assert await groups_of(store, DeliveryQuery(source="s2")) == {}
    assert await groups_of(store, DeliveryQuery(source="\0")) == {}
    with pytest.raises(ValueError, match="cursor"):
        await store.dead_groups(DeliveryQuery(), cursor="x")


@pytest.mark.parametrize("wanted", [DeliveryQuery(), DeliveryQuery(type="*", destination="billing")], ids=str)
async def test_the_sum_of_all_pages_counts_each_dead_delivery_once(
    store: Store, wanted: DeliveryQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step scans few rows and each page has one step, so pages end within an event's deliveries."""
    monkeypatch.setattr(searching, "INDEX_STEPS", searching.Steps(3, 3, 3))
    await one_after_the_other(store, 10, to=["billing", "ledger"])
    for name in ("billing", "ledger"):
        await store.record(
            [result(each, "dead", reason="timeout") for each in await lease(store, name, now=NOW + 60)]
        )
    names = ["billing"] if wanted.destination else ["billing", "ledger"]
    page = await store.dead_groups(wanted, page_time=0.0)
    assert page.cursor is not None
    assert sum(group.count for group in page.items) < 10
    assert page.searched_to is not None
    assert NOW < page.searched_to < NOW + 10
    counted = await groups_of(store, wanted, page_time=0.0)
    assert counted == {(name, "timeout", 200): (10, NOW, NOW + 9) for name in names}


async def groups_of(
    store: Store, query: DeliveryQuery, page_time: float = searching.GROUPS_TIME
) -> dict[tuple[Any, ...], tuple[int, float, float]]:
    """Return the number, and the times of the oldest and newest event, of all pages, by group."""
    found: list[DeadGroup] = []
    cursor: str | None = None
    while True:
        page = await store.dead_groups(query, cursor=cursor, page_time=page_time)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return {
        (group.destination, group.reason, group.http_status): (group.count, group.oldest, group.newest)
        for group in searching.merge_groups(found)
    }


def summed(
    expected: Mapping[tuple[Any, ...], Sequence[float]], wanted: Callable[[tuple[Any, ...]], bool]
) -> dict[tuple[Any, ...], tuple[int, float, float]]:
    """Return what `groups_of` returns for the wanted of these times of events."""
    times: dict[tuple[Any, ...], list[float]] = {}
    for key, received in expected.items():
        if wanted(key):
            times.setdefault(key[:3], []).extend(received)
    return {key: (len(all_), min(all_), max(all_)) for key, all_ in times.items()}


@pytest.mark.parametrize("status", ["pending", "dead", "delivered"])
async def test_a_filter_with_few_matches_finds_all_of_them(store: Store, status: Status) -> None:
    """The store has more rows than one call scans."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    rare = set(chance.sample(range(12_000), 5))
    arrivals = [
        arrival(of=event(event_type="rare" if number in rare else "common", received=NOW + number / 1000))
        for number in range(12_000)
    ]
    await accept(store, *arrivals)
    if status != "pending":
        while leased := await lease(store, now=NOW + 100):
            await store.record([result(each, status) for each in leased])
    expected = [each.event.id for each in reversed(arrivals) if each.event.type == "rare"]
    assert await ids(store.deliveries, DeliveryQuery(status=status, type="rare"), 2) == expected
    assert await ids(store.events, EventQuery(status=status, type="rare"), 2) == expected
    assert await ids(store.events, EventQuery(type="rare"), 2) == expected
    assert len(await ids(store.deliveries, DeliveryQuery(status=status), 500)) == 12_000


PIECES = st.text(st.sampled_from("ab*?[]^-.!\\%_é"), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(pattern=PIECES, types=st.lists(PIECES, min_size=1, max_size=6))
async def test_a_type_matches_as_it_does_in_a_route(store: Store, pattern: str, types: list[str]) -> None:
    source = event().id
    await accept(store, *[arrival(of=event(event_type=each, source=source)) for each in types])
    rows = await all_of(store.events, EventQuery(type=pattern, source=source))
    assert sorted(row.type for row in rows) == sorted(each for each in types if matches(pattern, each))


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "invoice.*",
        "*.paid",
        "in*e.*d",
        "invoice.pai?",
        "[i]nvoice.paid",
        "INVOICE.PAID",
        "invoice",
        "",
        "%",
        "invoice_paid",
    ],
)
async def test_only_the_star_of_a_pattern_is_special(store: Store, pattern: str) -> None:
    kinds = ["invoice.paid", "invoice.pai?", "[i]nvoice.paid", "order.paid", "invoice]", "%"]
    await accept(store, *[arrival(of=event(event_type=kind)) for kind in kinds])
    rows = await all_of(store.deliveries, DeliveryQuery(type=pattern))
    assert {row.type for row in rows} == {kind for kind in kinds if matches(pattern, kind)}
