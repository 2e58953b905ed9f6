"""Every store lists events from old to new as `Store.events_onward` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.builders import NOW, accept, arrival, event
from gatehouse.store import listing
from gatehouse.store.postgres import following as postgres
from gatehouse.store.records import EventQuery
from gatehouse.store.sqlite import following as sqlite

if TYPE_CHECKING:
    from gatehouse.store.base import Store


async def ids(store: Store, limit: int = 100, destination: str | None = None, **filters: Any) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await store.events_onward(
            EventQuery(**filters), destination=destination, limit=limit, cursor=cursor or None
        )
        assert len(page.items) <= limit
        found += [item.id for item in page.items]
        cursor = page.cursor
    return found


async def accept_some(store: Store, number: int, **fields: Any) -> list[str]:
    """Accept events one second apart. Return their ids, from old to new."""
    arrivals = [arrival(of=event(received=NOW + second, **fields)) for second in range(number)]
    await accept(store, *reversed(arrivals))
    return [each.event.id for each in arrivals]


async def test_an_empty_store_has_nothing_to_list(store: Store) -> None:
    assert await ids(store) == []


async def test_events_are_listed_from_old_to_new(store: Store) -> None:
    stored = await accept_some(store, 7)

    for limit in (1, 3, 7, 100):
        assert await ids(store, limit) == stored


async def test_a_list_onward_begins_and_ends_at_given_times(store: Store) -> None:
    stored = await accept_some(store, 7)

    assert await ids(store, since=NOW + 2, until=NOW + 5) == stored[2:5]
    assert await ids(store, since=NOW + 5.5) == stored[6:]


async def test_a_list_onward_has_the_filters_of_events(store: Store) -> None:
    stored = await accept_some(store, 2, event_type="invoice.paid", source="shop")
    await accept_some(store, 2, event_type="invoiceitem.paid", source="shop")
    await accept_some(store, 2, event_type="invoice.paid", source="other")

    assert await ids(store, type="invoice.*", source="shop") == stored
    assert await ids(store, type="nul\0", source="shop") == []


async def test_a_list_onward_shows_only_events_of_a_destination(store: Store) -> None:
    to_billing = arrival(to=["billing"])
    to_ledger = arrival(to=["ledger"])
    await accept(store, to_billing, to_ledger)

    assert await ids(store, destination="ledger") == [to_ledger.event.id]
    assert await ids(store, destination="archive") == []
    assert await ids(store, destination="nul\0") == []


async def test_an_item_has_what_identifies_its_event(store: Store) -> None:
    stored = event(subject="inv_1")
    await accept(store, arrival(of=stored, to=["billing", "archive"]))

    (item,) = (await store.events_onward(EventQuery(), limit=10)).items

    names = ("id", "source", "type", "external_id", "subject", "account", "received")
    assert [getattr(item, name) for name in names] == [getattr(stored, name) for name in names]
    assert item.destinations == ("archive", "billing")


async def test_a_page_scans_a_bounded_number_of_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "SCAN_ROWS", 3)
    monkeypatch.setattr(postgres, "SCAN_ROWS", 3)
    monkeypatch.setattr(postgres, "_RANGE", postgres._RANGE.replace(str(listing.SCAN_ROWS), "3"))
    await accept_some(store, 8)
    rare = arrival(of=event(event_type="rare", received=NOW + 9))
    await accept(store, rare)

    page = await store.events_onward(EventQuery(type="rare"), limit=10)

    assert (page.items, page.cursor is None) == ((), False)
    assert await ids(store, type="rare") == [rare.event.id]
