"""No statement of the SQLite store reads a whole table, by SQLite's plans without statistics."""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from conformance.builders import NOW, accept, arrival, event, lease, result
from gatehouse.store.records import DeliveryQuery, EventQuery
from gatehouse.store.sqlite import (
    SqliteStore,
    accepting,
    attempts,
    filters,
    leasing,
    listing,
    ordering,
    purging,
    queries,
    replaying,
)
from gatehouse.store.sqlite.schema import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


#: Queries with every filter.
EVERY_EVENT = EventQuery(
    source="s",
    type="t*",
    external_id="i",
    subject="s",
    account="a",
    contains=b"c",
    since=1.0,
    until=2.0,
    destination="d",
    status="dead",
    reason="r",
    http_status=500,
)
EVERY_DELIVERY = DeliveryQuery(
    source="s",
    type="t*",
    external_id="i",
    since=1.0,
    until=2.0,
    destination="d",
    status="dead",
    reason="r",
    http_status=500,
)


def with_every_filter(statement: str) -> str:
    is_of_deliveries = (
        "deliveries.status, deliveries.attempts" in statement
        or "deliveries.updated_ms" in statement
        or "GROUP BY 1, 2, 3" in statement
    )
    return queries.with_filters(
        statement,
        filters.delivery_filters(EVERY_DELIVERY) if is_of_deliveries else filters.event_filters(EVERY_EVENT),
    )


def plan(statement: str, columns: int = 0, extra: int = 0) -> list[str]:
    statement = with_every_filter(statement)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    row = f"({','.join('?' * columns)})"
    sql = "EXPLAIN QUERY PLAN " + statement.replace("{rows}", f"{row},{row}")
    parameters = [1] * (2 * columns + extra)
    named = dict.fromkeys(re.findall(r":([a-z_]+)", sql), 1)
    found = connection.execute(sql, named or parameters).fetchall()
    connection.close()
    return [detail for *_, detail in found]


#: A scan of the parameters, not of a table.
OF_PARAMETERS = (
    "CONSTANT ROW",
    "SCAN wanted",
    "SCAN result",
    "SCAN new",
    "SCAN lease",
    "SCAN ended",
    "SCAN page",
    "json_each",
    "(subquery",
)


@pytest.mark.parametrize(
    ("statement", "columns", "extra"),
    [
        (accepting._KNOWN_KEYS, 3, 1),
        *((statement, 0, 5 if which == "next" else 3) for which, statement in leasing._LEASABLE.items()),
        (leasing._LEASE, 0, 3),
        (leasing._MARK_CORRUPT, 0, 3),
        (leasing._LOST_OR_ORDERED, 3, 0),
        (leasing._RECORD, 9, 0),
        (attempts._INSERT, 9, 0),
        (attempts._REMOVE, 3, 0),
        (attempts._KEEP_LAST, 0, 2),
        (attempts._OF_EVENT, 0, 1),
        (leasing._RELEASE, 3, 0),
        (leasing._NEXT_DUE, 0, 2),
        (ordering._TAKEN, 2, 0),
        (ordering._FREE, 2, 0),
        (ordering._FREE_HELD, 0, 2),
        (replaying._ONE_DEAD, 0, 0),
        (replaying._REVIVE, 3, 0),
        (replaying._REPLAY, 0, 3),
        *(
            (source.apply_to(statement), 0, 0)
            for source in (queries.DEAD, queries.DEAD_OF_DESTINATION)
            for statement in (
                queries.RANGE_OF_NUMBERS,
                queries.DELIVERIES_BY_NUMBER,
                queries.EVENTS_BY_NUMBER,
                queries.DEAD_GROUPS_OF_EVENTS,
                replaying._RANGE,
                replaying._DEAD,
            )
        ),
        *(
            (source.apply_to(statement), 0, 0)
            for source in (queries.ATTEMPTED_WITH_REASON, queries.ATTEMPTED_WITH_HTTP_STATUS)
            for statement in (
                queries.RANGE_OF_NUMBERS,
                queries.DELIVERIES_ATTEMPTED,
                queries.EVENTS_BY_NUMBER,
            )
        ),
        (queries.PENDING_IN_TABLE.apply_to(queries.DELIVERIES_BY_NUMBER), 0, 0),
        (queries.PENDING_IN_TABLE.apply_to(queries.EVENTS_BY_NUMBER), 0, 0),
        (queries.PENDING_OF_DESTINATION.apply_to(queries.COUNT_UP_TO_LIMIT), 0, 0),
        (queries.PENDING_OF_DESTINATION.apply_to(queries.EVENTS_BY_NUMBER), 0, 0),
        (queries.RANGE_OF_ALL_NUMBERS, 0, 0),
        (queries.END_OF_IDS, 0, 0),
        (queries.DELIVERIES_BY_ID, 0, 0),
        (queries.EVENTS_BY_ID, 0, 0),
        (queries.DELIVERIES_OF_EVENT, 0, 1),
        (purging._PURGE_KEYS, 0, 2),
        (purging._NEXT_EVENTS, 0, 3),
        (purging._PURGE_EVENTS, 0, 0),
    ],
    ids=lambda value: " ".join(value.split()[:3]) if isinstance(value, str) else "",
)
def test_a_statement_finds_its_rows_by_an_index(statement: str, columns: int, extra: int) -> None:
    steps = plan(statement, columns, extra)
    assert steps
    for step in steps:
        assert not step.startswith("SCAN") or any(harmless in step for harmless in OF_PARAMETERS), steps
        assert "TEMP B-TREE FOR ORDER BY" not in step
        assert "RIGHT PART OF ORDER BY" not in step or statement == queries.DELIVERIES_BY_ID


@pytest.mark.parametrize("statement", [leasing._RECOVER, leasing._PENDING, leasing._DEAD])
def test_statements_over_all_pending_or_dead_deliveries_read_only_an_index(statement: str) -> None:
    steps = plan(statement)
    assert any("deliveries USING COVERING INDEX" in step for step in steps), steps
    assert not any(step.startswith("SCAN deliveries") and "COVERING" not in step for step in steps), steps


def test_known_keys_are_found_by_the_whole_key() -> None:
    assert any(
        "SEARCH keys USING PRIMARY KEY (source=? AND place=? AND key=?)" in step
        for step in plan(accepting._KNOWN_KEYS, 3, 1)
    )


@pytest.mark.parametrize("statement", [queries.COUNT_UP_TO_LIMIT, queries.EVENTS_BY_NUMBER])
def test_pending_deliveries_are_counted_and_found_with_an_index_alone(statement: str) -> None:
    steps = plan(queries.PENDING.apply_to(statement))
    assert "SCAN deliveries USING COVERING INDEX deliveries_pending" in steps


@pytest.mark.parametrize("statement", [ordering._TAKEN, ordering._FREE])
def test_an_order_key_is_found_by_destination_and_key(statement: str) -> None:
    found = [step for step in plan(statement, 2) if "deliveries_ordered" in step]
    assert found
    assert all("COVERING INDEX deliveries_ordered (destination=? AND order_key=?" in step for step in found)


#: The limit of steps of the virtual machine for one page. A scan of the store takes several times as many.
MOST_STEPS = 200_000
ROWS = 30_000


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Return a store with many events, of which a few have a rare type."""
    store = await SqliteStore.open(tmp_path / "gatehouse.db", clock=lambda: NOW)
    for start in range(0, ROWS, 2000):
        kinds = ["rare" if number == 5 else "common" for number in range(start, start + 2000)]
        received = [NOW + number / 100 for number in range(start, start + 2000)]
        await accept(
            store,
            *[
                arrival(of=event(event_type=kind, received=at))
                for kind, at in zip(kinds, received, strict=True)
            ],
        )
    yield store
    await store.close()


async def end_all(store: SqliteStore, status: str) -> None:
    while leased := await lease(store, now=NOW + ROWS):
        await store.record([result(each, status) for each in leased])


async def steps_of(store: SqliteStore, work: Callable[[sqlite3.Connection], Any]) -> int:
    """Return how many thousands of steps the reading connection takes for this."""

    def counted(connection: sqlite3.Connection) -> int:
        ticks: list[None] = []
        connection.set_progress_handler(lambda: ticks.append(None), 1000)
        work(connection)
        connection.set_progress_handler(None, 0)
        return len(ticks) * 1000

    return await store._database.read(counted)


@pytest.mark.parametrize("status", ["pending", "delivered", "dead"])
async def test_a_page_scans_a_bounded_number_of_rows_even_if_few_match(
    full: SqliteStore, status: str
) -> None:
    if status != "pending":
        await end_all(full, status)
    for asked in (status, None):
        events = EventQuery(type="rare", status=asked)  # type: ignore[arg-type]
        deliveries = DeliveryQuery(type="rare", status=asked)  # type: ignore[arg-type]
        for work in (
            partial(listing.events, query=events, limit=50, cursor=None),
            partial(listing.deliveries, query=deliveries, limit=50, cursor=None),
            partial(listing.dead_groups, query=deliveries, cursor=None),
            partial(replaying.find_dead, query=deliveries, now=NOW, after=-1, limit=50),
        ):
            assert await steps_of(full, work) < MOST_STEPS


async def test_the_last_page_costs_as_little_as_the_first(full: SqliteStore) -> None:
    last = (await full.events(EventQuery(until=NOW + 2), limit=10)).cursor
    for cursor in (None, last):
        work = partial(listing.events, query=EventQuery(), limit=10, cursor=cursor)
        assert await steps_of(full, work) < MOST_STEPS


async def test_the_cost_of_an_ordered_delivery_does_not_depend_on_held_ones(full: SqliteStore) -> None:
    await end_all(full, "delivered")
    await accept(full, *[arrival(to=["ledger"], order=b"one key") for _ in range(ROWS // 3)])
    taken: list[int] = []

    def count(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(lambda: taken.append(1), 100)

    await (await full._database.writer()).run(count)
    for _ in range(3):
        (delivery,) = await lease(full, "ledger")
        await full.record([result(delivery)])
    assert len(taken) < 50
