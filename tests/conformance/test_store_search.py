"""Every store finds the events and deliveries that a plain Python model of the filters finds."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.errors import StoreUnavailableError
from gatehouse.language.patterns import matches
from gatehouse.store import searching
from gatehouse.store.records import DeliveryQuery, EventQuery, Page
from gatehouse.store.searching import BodySearches, StepRows, fill_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gatehouse.events.event import Event
    from gatehouse.store.base import Store
    from gatehouse.store.records import DeliveryRow

    Ask = Callable[..., Awaitable[Page[Any]]]

#: A value that is longer than what an index of PostgreSQL holds of it.
LONG = "x" * 100
VALUES: dict[str, Sequence[Any]] = {
    "source": ("shop", "pos"),
    "type": ("order.paid", "order.open", "é.paid", LONG + "1", LONG + "2"),
    "external_id": ("evt_1", "evt_2", LONG + "1", LONG + "2", "nul\0"),
    "subject": (None, "inv_1", LONG + "1", LONG + "2"),
    "account": (None, "acct_1", ""),
    "body": (b"", b"plain", b"a\0needle\0b", b"\xff\xfeneedle", b"Needle", b"need" + b"le" * 600, b"\0"),
}
NEEDLES = (b"needle", b"le" * 500, b"\0", b"\xff", b"Need", b"absent", b"n" * 1024, b"le\0b")
PATTERNS = ("order.*", "*.paid", "order.paid", LONG + "*", LONG + "1", "é*", "*", "nothing")
DESTINATIONS = ("billing", "ledger", "archive")


def some_event(chance: random.Random, number: int) -> Event:
    chosen = {name: chance.choice(values) for name, values in VALUES.items()}
    made = event(
        chosen["body"],
        source=chosen["source"],
        event_type=chosen["type"],
        subject=chosen["subject"],
        # Some are received in the same millisecond.
        received=NOW + number // 3,
    )
    return replace(made, external_id=chosen["external_id"], account=chosen["account"])


async def fill(store: Store, chance: random.Random, number: int) -> list[Event]:
    """Store events with deliveries of each status. Returns them from new to old."""
    events = [some_event(chance, each) for each in range(number)]
    chosen = [chance.sample(DESTINATIONS, chance.randrange(len(DESTINATIONS) + 1)) for _ in events]
    await accept(store, *[arrival(to=to, of=each) for each, to in zip(events, chosen, strict=True)])
    for destination in DESTINATIONS:
        leased = await lease(store, destination, now=NOW + number)
        ended = [each for each in leased if chance.random() < 0.8]
        await store.release([each for each in leased if each not in ended])
        await store.record([result(each, chance.choice(("delivered", "dead"))) for each in ended])
    return sorted(events, key=lambda each: each.id, reverse=True)


def is_wanted(found: Event, query: EventQuery | DeliveryQuery) -> bool:
    """Tell whether an event meets the conditions that are not on its deliveries."""
    for name in ("source", "external_id", "subject", "account"):
        wanted = getattr(query, name, None)
        if wanted is not None and getattr(found, name) != wanted:
            return False
    contains = getattr(query, "contains", None)
    return (
        (query.type is None or matches(query.type, found.type))
        and (query.since is None or found.received >= query.since)
        and (query.until is None or found.received < query.until)
        and (contains is None or contains in found.body)
    )


def has_delivery(rows: Sequence[DeliveryRow], query: EventQuery | DeliveryQuery) -> bool:
    """Tell whether one of these deliveries meets all conditions on deliveries."""
    return any(
        (query.destination is None or row.destination == query.destination)
        and (query.status is None or row.status == query.status)
        for row in rows
    )


async def all_of(ask: Ask, query: object, limit: int) -> list[Any]:
    """Return the items of all pages."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await ask(query, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        assert (page.cursor is None) == (page.searched_to is None)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


def some_query(chance: random.Random, number: int) -> dict[str, Any]:
    """Choose conditions that an event query can have. The first numbers have one condition each."""
    choices: list[tuple[str, Sequence[Any]]] = [
        ("source", VALUES["source"]),
        ("type", PATTERNS),
        ("external_id", VALUES["external_id"]),
        ("subject", ("inv_1", LONG + "1", LONG, "none")),
        ("account", ("acct_1", "")),
        ("contains", NEEDLES),
        ("destination", (*DESTINATIONS, "nowhere")),
        ("status", ("pending", "delivered", "dead")),
        ("since", (NOW + 20,)),
        ("until", (NOW + 60,)),
    ]
    wanted = [choices[number]] if number < len(choices) else chance.sample(choices, chance.randrange(2, 4))
    return {name: chance.choice(values) for name, values in wanted}


@pytest.mark.parametrize("one_step", [True, False])
async def test_each_filter_alone_and_combined_finds_what_a_model_finds(
    store: Store, monkeypatch: pytest.MonkeyPatch, one_step: bool
) -> None:
    # Steps and pages are short, so that each query has many of both.
    monkeypatch.setattr(searching, "INDEX_ROWS", StepRows(23, 11, 97))
    monkeypatch.setattr(searching, "BODY_ROWS", StepRows(5, 3, 31))
    if one_step:
        monkeypatch.setattr(searching, "PAGE_TIME", 0.0)
    chance = random.Random(2)  # noqa: S311 - the same each time
    events = await fill(store, chance, 240)
    every_row = await all_of(store.deliveries, DeliveryQuery(), 500)
    rows: dict[str, list[DeliveryRow]] = {each.id: [] for each in events}
    for row in every_row:
        rows[row.event_id].append(row)
    for number in range(60):
        conditions = some_query(chance, number)
        query = EventQuery(**conditions)
        of_delivery = query.status is not None or query.destination is not None
        expected = [
            each.id
            for each in events
            if is_wanted(each, query) and (not of_delivery or has_delivery(rows[each.id], query))
        ]
        found = await all_of(store.events, query, chance.choice((1, 7, 500)))
        assert sorted((row.id for row in found), reverse=True) == expected, conditions
        assert [row.received for row in found] == sorted((row.received for row in found), reverse=True)

        known = {name: value for name, value in conditions.items() if name in DeliveryQuery.__struct_fields__}
        of_deliveries = DeliveryQuery(**known)
        wanted = [
            (row.event_id, row.destination)
            for each in events
            for row in rows[each.id]
            if is_wanted(each, of_deliveries) and has_delivery([row], of_deliveries)
        ]
        listed = await all_of(store.deliveries, of_deliveries, chance.choice((1, 7, 500)))
        assert sorted((row.event_id, row.destination) for row in listed) == sorted(wanted), known


async def test_a_needle_is_found_wherever_it_is_in_a_long_body(store: Store) -> None:
    """Long bodies are stored in several parts."""
    needle, length = b"<the needle>", 300_000
    bodies = [b"." * at + needle + b"." * (length - at) for at in (0, 1, 1990, 4090, 131_070, length)]
    await accept(store, *[arrival(of=event(body)) for body in bodies], arrival(of=event(b"." * length)))
    assert len(await all_of(store.events, EventQuery(contains=needle), 500)) == len(bodies)
    assert len(await all_of(store.events, EventQuery(contains=b"." * 400_000), 500)) == 0


async def test_a_page_tells_how_far_back_the_search_has_come(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PAGE_TIME", 0.0)
    monkeypatch.setattr(searching, "INDEX_ROWS", StepRows(4, 4, 4))
    monkeypatch.setattr(searching, "BODY_ROWS", StepRows(4, 4, 4))
    await accept(store, *[arrival(of=event(received=NOW + number)) for number in range(10)])
    for query in (EventQuery(subject="none"), EventQuery(contains=b"none"), EventQuery(status="dead")):
        reached: list[float | None] = []
        cursor = None
        while not reached or cursor is not None:
            page = await store.events(query, limit=5, cursor=cursor)
            assert page.items == ()
            reached.append(page.searched_to)
            cursor = page.cursor
        expected = [] if query.status else [NOW + 6, NOW + 3, NOW]
        assert reached == [*expected, None]
    full = await store.events(EventQuery(), limit=2)
    assert full.searched_to == NOW + 8


async def test_a_value_of_any_length_can_be_stored_and_found(store: Store) -> None:
    huge: dict[str, Any] = {name: f"{name}é" * 1024 for name in ("external_id", "subject", "account")}
    stored = replace(event(event_type="t" * 5000, source="s" * 200), **huge)
    await accept(store, arrival(of=stored), arrival(of=replace(stored, id=event().id, subject="other")))
    (found,) = await all_of(store.events, EventQuery(type="t" * 5000, **huge), 500)
    assert found.id == stored.id


async def steps_of(pages: list[Page[Any]], limit: int, times: list[float]) -> tuple[Page[Any], list[int]]:
    rows: list[int] = []
    left = iter(pages)

    async def step(_: int, __: str | None, scan_rows: int) -> Page[Any]:
        rows.append(scan_rows)
        return next(left)

    clock = iter(times)
    bounds = StepRows(100, 10, 1000)
    page = await fill_page(step, limit=limit, cursor=None, bounds=bounds, clock=lambda: next(clock))
    return page, rows


async def test_a_page_ends_when_it_is_full_when_the_list_ends_and_when_its_time_is_over() -> None:
    empty: Page[int] = Page((), "c", 1.0)
    one, last = Page((1,), "d", 2.0), Page((2,), None)

    full, _ = await steps_of([one, one, one], 2, [0.0, 0.01, 0.02])
    assert (full.items, full.cursor, full.searched_to) == ((1, 1), "d", 2.0)
    ended, _ = await steps_of([one, last], 9, [0.0, 0.01, 0.02])
    assert (ended.items, ended.cursor, ended.searched_to) == ((1, 2), None, None)
    late, rows = await steps_of([one, empty, one], 9, [0.0, 0.1, 0.15])
    assert (late.items, late.cursor, len(rows)) == ((1,), "c", 2)


async def test_steps_become_longer_when_they_are_fast_and_shorter_when_they_are_slow() -> None:
    empty: Page[int] = Page((), "c", 1.0)
    _, rows = await steps_of([empty] * 5, 9, [0.0, 0.001, 0.021, 0.061, 0.121, 0.3])
    assert rows == [100, 400, 400, 200, 66]
    assert searching.next_rows(1000, 0.0, StepRows(100, 10, 1000)) == 1000
    assert searching.next_rows(10, 1.0, StepRows(100, 10, 1000)) == 10


async def test_one_body_search_runs_at_a_time_and_few_wait() -> None:
    searches = BodySearches()
    query = EventQuery(contains=b"x")
    running: list[int] = []
    released = asyncio.Event()

    async def search(number: int) -> None:
        async with searches.turn(query):
            running.append(number)
            await released.wait()

    tasks = [asyncio.create_task(search(number)) for number in range(searching.MOST_WAITING + 1)]
    await asyncio.sleep(0)
    async with searches.turn(EventQuery()):
        assert running == [0]
    with pytest.raises(StoreUnavailableError):
        async with searches.turn(query):
            pass
    released.set()
    await asyncio.gather(*tasks)
    assert running == list(range(searching.MOST_WAITING + 1))
    async with searches.turn(query):
        pass
