"""Dead deliveries are retried when their event is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from doubles.delivery import make_event
from gatehouse.errors import StoreUnavailableError, UnavailableError
from gatehouse.ingest.committer import REVIVE_INTERVAL, Reviver
from gatehouse.store.base import Arrival, Assignment, Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.case("F-44")
NOW = 1_750_000_000.0


class Store:
    """Records the calls, and revives everything."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, list[str]], float, float]] = []
        self.fails = False

    async def revive(
        self, events: Mapping[str, Sequence[str]], *, now: float, asked_before: float
    ) -> dict[str, int]:
        if self.fails:
            raise StoreUnavailableError("locked")
        self.asked.append(({name: list(names) for name, names in events.items()}, now, asked_before))
        return {name: 1 for names in events.values() for name in names}


class Dispatcher:
    def __init__(self) -> None:
        self.woken: list[tuple[str, int, int]] = []

    def wake(self, name: str, *, pending: int = 0, dead: int = 0) -> None:
        self.woken.append((name, pending, dead))


def duplicate(event_id: str, dead: float | None, *to: str) -> tuple[Arrival, Receipt]:
    assignments = tuple(Assignment(name, leased=True) for name in to)
    return Arrival(make_event(), (), assignments), Receipt("duplicate", event_id, dead=dead)


async def test_dead_deliveries_are_revived_at_the_current_destinations() -> None:
    store, dispatcher = Store(), Dispatcher()
    duplicates = [
        duplicate("NEVER", 0.0, "billing", "ledger"),
        duplicate("LONG-AGO", NOW - REVIVE_INTERVAL, "archive"),
        duplicate("JUST-NOW", NOW - REVIVE_INTERVAL + 1, "billing"),
        duplicate("ALIVE", None, "billing"),
        duplicate("NO-ROUTE", 0.0),
    ]

    assert await Reviver(store, dispatcher).revive(duplicates, NOW) == 3
    expected = {"NEVER": ["billing", "ledger"], "LONG-AGO": ["archive"], "NO-ROUTE": []}
    assert store.asked == [(expected, NOW, NOW - REVIVE_INTERVAL)]
    assert dispatcher.woken == [("billing", 1, -1), ("ledger", 1, -1), ("archive", 1, -1)]


async def test_the_store_is_not_called_when_nothing_may_be_revived() -> None:
    store = Store()

    assert (
        await Reviver(store, Dispatcher()).revive([duplicate("E", NOW, "a"), duplicate("F", 0.0)], NOW) == 0
    )
    assert store.asked == []


async def test_a_failing_store_causes_the_provider_to_retry() -> None:
    store = Store()
    store.fails = True

    with pytest.raises(UnavailableError):
        await Reviver(store, Dispatcher()).revive([duplicate("E", 0.0, "a")], NOW)
