"""The contract of audit entries: what is stored is listed, filtered, paged and purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.builders import NOW
from gatehouse.store.base import Purged
from gatehouse.store.records import AuditEntry, AuditQuery

if TYPE_CHECKING:
    from conformance.conftest import Reopen
    from gatehouse.store.base import Store


def entry(number: int = 0, **changed: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "at": NOW + number,
        "who": "alice",
        "role": "operate",
        "action": "pause",
        "what": {"destination": f"d{number}"},
        "count": 1,
    }
    return AuditEntry(**(values | changed))


async def test_an_entry_is_listed_as_it_was_stored(store: Store, reopen: Reopen) -> None:
    stored = entry(
        who="ci.1_A-b", action="retry", what={"type": "a.*", "n": [1, None], "é": '\\"\n'}, count=7
    )
    await store.add_audit(stored)

    reopened = await reopen()

    page = await reopened.audit(AuditQuery(), limit=10)
    assert (page.items, page.cursor) == ((stored,), None)


async def test_entries_are_listed_from_new_to_old_in_pages(store: Store) -> None:
    entries = [entry(number) for number in range(5)]
    for one in entries:
        await store.add_audit(one)

    found: list[AuditEntry] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await store.audit(AuditQuery(), limit=2, cursor=cursor)
        found += page.items
        cursor, pages = page.cursor, pages + 1

    assert found == entries[::-1]
    assert pages == 3


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (AuditQuery(who="bob"), [3, 1]),
        (AuditQuery(action="resume"), [3, 2]),
        (AuditQuery(who="bob", action="resume"), [3]),
        (AuditQuery(since=NOW + 2), [3, 2]),
        (AuditQuery(until=NOW + 2), [1, 0]),
        (AuditQuery(since=NOW + 1, until=NOW + 2), [1]),
        (AuditQuery(who="nobody"), []),
        (AuditQuery(who="bo%"), []),
        (AuditQuery(who="nul\0"), []),
    ],
)
async def test_each_filter_selects_entries(store: Store, query: AuditQuery, numbers: list[int]) -> None:
    for number in range(4):
        await store.add_audit(
            entry(number, who=("alice", "bob")[number % 2], action="pause" if number < 2 else "resume")
        )

    page = await store.audit(query, limit=10)

    assert [one.what["destination"] for one in page.items] == [f"d{number}" for number in numbers]


async def test_the_cursor_of_a_filtered_list_continues_it(store: Store) -> None:
    for number in range(6):
        await store.add_audit(entry(number, who=("alice", "bob")[number % 2]))

    first = await store.audit(AuditQuery(who="bob"), limit=1)
    rest = await store.audit(AuditQuery(who="bob"), limit=5, cursor=first.cursor)

    assert [one.at - NOW for one in (*first.items, *rest.items)] == [5, 3, 1]
    assert rest.cursor is None


@pytest.mark.parametrize("cursor", ["", "nonsense", "WyJhIiwgIiJd", "4pi6"])
async def test_a_cursor_of_another_list_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await store.audit(AuditQuery(), limit=1, cursor=cursor)


async def test_expired_entries_are_purged_in_steps(store: Store) -> None:
    for number in range(5):
        await store.add_audit(entry(number))

    async def purge() -> Purged:
        return await store.purge(now=NOW, events_before=0, dead_before=0, audit_before=NOW + 3, limit=2)

    assert await purge() == Purged(events=0, keys=0, done=False, audit=2)
    assert await purge() == Purged(events=0, keys=0, done=True, audit=1)
    assert [one.at - NOW for one in (await store.audit(AuditQuery(), limit=10)).items] == [4, 3]


async def test_a_purge_without_a_time_for_entries_keeps_them(store: Store) -> None:
    await store.add_audit(entry())

    await store.purge(now=NOW, events_before=NOW + 1, dead_before=NOW + 1, limit=10)

    assert len((await store.audit(AuditQuery(), limit=10)).items) == 1
