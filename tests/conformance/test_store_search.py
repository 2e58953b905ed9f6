"""Every store finds the events and deliveries that a plain Python model of the filters finds."""

from __future__ import annotations

import asyncio
import itertools
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.errors import StoreUnavailableError
from gatehouse.language.patterns import matches
from gatehouse.store import listing, searching
from gatehouse.store.records import DeliveryQuery, EventQuery, Page
from gatehouse.store.searching import BodySearches, Steps, fill_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gatehouse.events.event import Event
    from gatehouse.store.base import Delivery, Result, Store
    from gatehouse.store.records import Attempt, StoredEvent

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
FAILURES = (("timeout", None), ("server_error", 500), ("server_error", 503), ("rejected", 422))
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
        for _ in range(3):
            leased = await lease(store, destination, now=NOW + number)
            attempted = [each for each in leased if chance.random() < 0.7]
            await store.release([each for each in leased if each not in attempted])
            await store.record([some_result(chance, each) for each in attempted])
    return sorted(events, key=lambda each: each.id, reverse=True)


def some_result(chance: random.Random, delivery: Delivery) -> Result:
    status = chance.choice(("delivered", "dead", "pending"))
    reason, http_status = ("ok", 200) if status == "delivered" else chance.choice(FAILURES)
    return replace(result(delivery, status, reason=reason, due_at=NOW), http_status=http_status)


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


def matching_deliveries(found: StoredEvent, query: EventQuery | DeliveryQuery) -> list[str]:
    """Return the destinations of the deliveries that meet all conditions on deliveries."""
    return [
        row.destination
        for row in found.deliveries
        if (query.destination is None or row.destination == query.destination)
        and (query.status is None or row.status == query.status)
        and is_attempted(found.attempts[row.destination], query)
    ]


def is_attempted(attempts: Sequence[Attempt], query: EventQuery | DeliveryQuery) -> bool:
    """Tell whether one attempt meets the conditions on attempts."""
    if query.reason is None and query.http_status is None:
        return True
    return any(
        (query.reason is None or query.reason == made.reason)
        and (query.http_status is None or query.http_status == made.http_status)
        for made in attempts
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
        ("reason", ("timeout", "server_error", "ok", "rejected", "dns")),
        ("http_status", (200, 422, 500, 503, 404)),
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
    monkeypatch.setattr(searching, "INDEX_STEPS", Steps(23, 11, 97))
    monkeypatch.setattr(searching, "BODY_STEPS", Steps(5, 3, 31))
    if one_step:
        monkeypatch.setattr(searching, "PAGE_TIME", 0.0)
    chance = random.Random(2)  # noqa: S311 - the same each time
    events = await fill(store, chance, 150)
    stored = [each for event in events if (each := await store.event(event.id)) is not None]
    for number in range(45):
        conditions = some_query(chance, number)
        query = EventQuery(**conditions)
        of_delivery = bool(conditions.keys() & {"status", "destination", "reason", "http_status"})
        expected = [
            each.event.id
            for each in stored
            if is_wanted(each.event, query) and (not of_delivery or matching_deliveries(each, query))
        ]
        found = await all_of(store.events, query, chance.choice((4, 25, 500)))
        assert sorted((row.id for row in found), reverse=True) == expected, conditions
        assert [row.received for row in found] == sorted((row.received for row in found), reverse=True)

        known = {name: value for name, value in conditions.items() if name in DeliveryQuery.__struct_fields__}
        of_deliveries = DeliveryQuery(**known)
        wanted = [
            (each.event.id, destination)
            for each in stored
            if is_wanted(each.event, of_deliveries)
            for destination in matching_deliveries(each, of_deliveries)
        ]
        listed = await all_of(store.deliveries, of_deliveries, chance.choice((4, 25, 500)))
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
    monkeypatch.setattr(searching, "INDEX_STEPS", Steps(4, 4, 4))
    monkeypatch.setattr(searching, "BODY_STEPS", Steps(4, 4, 4))
    await accept(store, *[arrival(of=event(received=NOW + number)) for number in range(10)])
    for query in (EventQuery(subject="none"), EventQuery(contains=b"none"), EventQuery(status="dead")):
        reached: list[float | None] = []
        cursor = None
        while not reached or cursor is not None:
            page = await store.events(query, limit=5, cursor=cursor, page_time=0.0)
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


class SimulatedTime:
    """The time of a clock that only steps and rests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def steps_of(
    pages: list[Page[int]], limit: int, durations: list[float], rest: float = 0.0
) -> tuple[Page[int], list[int], float]:
    """Fill a page with steps of these durations. Returns it, the rows of each step, and the time it took."""
    rows: list[int] = []
    left, simulated = iter(zip(pages, durations, strict=True)), SimulatedTime()

    async def step(_: int, __: str | None, scan_rows: int) -> Page[int]:
        rows.append(scan_rows)
        page, seconds = next(left)
        await simulated.sleep(seconds)
        return page

    steps = Steps(100, 10, 1000, rest=rest)
    page = await fill_page(
        step, limit=limit, cursor=None, steps=steps, clock=simulated, sleep=simulated.sleep
    )
    return page, rows, simulated.now


EMPTY: Page[int] = Page((), "c", 1.0)
ONE, LAST = Page((1,), "d", 2.0), Page((2,), None)


async def test_a_page_ends_when_it_is_full_when_the_list_ends_and_when_its_time_is_over() -> None:
    full, *_ = await steps_of([ONE, ONE, ONE], 2, [0.01, 0.01, 0.01])
    assert (full.items, full.cursor, full.searched_to) == ((1, 1), "d", 2.0)
    ended, *_ = await steps_of([ONE, LAST], 9, [0.01, 0.01])
    assert (ended.items, ended.cursor, ended.searched_to) == ((1, 2), None, None)
    late, rows, _ = await steps_of([ONE, EMPTY, ONE], 9, [0.1, 0.05, 0.01])
    assert (late.items, late.cursor, len(rows)) == ((1,), "c", 2)


async def test_steps_become_longer_when_they_are_fast_and_shorter_when_they_are_slow() -> None:
    _, rows, _ = await steps_of([EMPTY] * 5, 9, [0.001, 0.02, 0.04, 0.06, 0.03])
    assert rows == [100, 400, 400, 200, 66]
    assert searching.next_rows(1000, 0.0, Steps(100, 10, 1000)) == 1000
    assert searching.next_rows(10, 1.0, Steps(100, 10, 1000)) == 10


#: Seconds per row, in the memory of the system and on a disk.
MEMORY, DISK = 5e-6, {"index": 8e-6, "bodies": 3e-5, "scattered": 2e-4}


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (EventQuery(source="rare"), "index"),
        (EventQuery(contains=b"rare"), "bodies"),
        (EventQuery(reason="timeout", source="rare"), "scattered"),
        (EventQuery(http_status=503, contains=b"rare"), "scattered"),
        (DeliveryQuery(status="dead", source="rare"), "scattered"),
    ],
)
@pytest.mark.parametrize("in_memory", [0, 1, 3, 8])
async def test_a_page_ends_soon_after_its_time_when_the_search_gets_from_memory_to_the_disk(
    query: EventQuery | DeliveryQuery, kind: str, in_memory: int
) -> None:
    simulated, taken = SimulatedTime(), itertools.count()

    async def step(_: int, __: str | None, rows: int) -> Page[int]:
        await simulated.sleep(rows * (MEMORY if next(taken) < in_memory else DISK[kind]))
        return EMPTY

    steps = searching.steps_for(query)
    page = await fill_page(
        step, limit=50, cursor=None, steps=steps, clock=simulated, sleep=simulated.sleep, page_time=0.06
    )
    assert page == EMPTY
    assert simulated.now <= 0.14


async def test_a_step_reads_few_of_the_events_that_wait(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They can be anywhere in the file, so each of them can be a read of the disk."""
    monkeypatch.setattr(searching, "PAGE_TIME", 0.0)
    number = 2 * listing.SCATTERED_ROWS + 1
    events = [event(event_type="new" if each else "old", received=NOW + each) for each in range(number)]
    await accept(store, *[arrival(of=each) for each in events])
    asked: list[tuple[Ask, object]] = [
        (partial(store.events, page_time=0.0), EventQuery(status="pending", type="old")),
        (store.deliveries, DeliveryQuery(status="pending", type="old")),
    ]
    for ask, query in asked:
        page = await ask(query, limit=50)
        assert page.items == ()
        assert page.searched_to == NOW + number - listing.SCATTERED_ROWS
        assert len(await all_of(ask, query, 50)) == 1


async def test_a_search_of_bodies_rests_as_long_as_it_works_and_a_page_takes_no_longer_for_it() -> None:
    _, rows, took = await steps_of([EMPTY] * 5, 9, [0.02] * 5, rest=1.0)
    assert len(rows) == 4
    assert took == pytest.approx(0.14)
    _, rows, took = await steps_of([EMPTY], 9, [0.1], rest=1.0)
    assert (len(rows), took) == (1, 0.1)


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
