"""A flood of made-up URLs spends its own budget, and delays the fetch of a real key only briefly."""

from __future__ import annotations

import pytest

from gatehouse.verify.key_cache import NEW_URLS_PER_MINUTE, KeyBudget

REAL = "https://keys.example/real"
SENDER = "203.0.113.9"


class Flood:
    """Requests made-up URLs at a given rate, from a given number of senders."""

    def __init__(self, budget: KeyBudget, *, per_second: int, senders: int = 1, repeats: int = 1) -> None:
        self._budget = budget
        self._per_second = per_second
        self._senders = senders
        self._repeats = repeats
        self._number = 0
        self.now = 0.0
        self.fetched: list[str] = []

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * self._per_second)):
            self.now += 1 / self._per_second
            self._number += 1
            url = f"https://keys.example/{self._number // self._repeats}"
            sender = f"198.51.{self._number % self._senders // 256}.{self._number % self._senders % 256}"
            self.fetched += self._budget.urls_to_fetch(url, sender, self.now)


def seconds_until_fetched(flood: Flood, budget: KeyBudget, sender: str, *, every: float) -> float:
    """Request the real URL at intervals until it is fetched, and return how long that took."""
    began = flood.now
    while REAL not in budget.urls_to_fetch(REAL, sender, flood.now) and REAL not in flood.fetched:
        flood.run(every)
        assert flood.now - began < 120
    return flood.now - began


@pytest.mark.case("F-09")
def test_a_quiet_sender_is_served_at_once() -> None:
    budget = KeyBudget()
    flood = Flood(budget, per_second=61)
    flood.run(60)

    assert seconds_until_fetched(flood, budget, SENDER, every=1) == 0


@pytest.mark.case("F-09")
@pytest.mark.parametrize(
    ("per_second", "senders", "repeats"), [(61, 1, 1), (1000, 1, 1), (500, 5000, 1), (61, 1, 4), (500, 1, 20)]
)
def test_a_repeated_url_is_fetched_soon_during_a_flood(per_second: int, senders: int, repeats: int) -> None:
    budget = KeyBudget()
    flood = Flood(budget, per_second=per_second, senders=senders, repeats=repeats)
    flood.run(30)

    # The flood has the same sender address as the provider, as behind a shared proxy.
    assert seconds_until_fetched(flood, budget, "198.51.0.0", every=1) <= 45


@pytest.mark.case("F-09")
def test_a_flood_causes_few_fetches() -> None:
    for senders in (1, 5000):
        flood = Flood(KeyBudget(), per_second=200, senders=senders)
        flood.run(120)

        assert len(flood.fetched) <= 6 * NEW_URLS_PER_MINUTE


@pytest.mark.case("F-09")
def test_an_ipv6_network_counts_as_one_sender() -> None:
    budget = KeyBudget()
    fetched = [
        url
        for number in range(10 * NEW_URLS_PER_MINUTE)
        for url in budget.urls_to_fetch(f"https://keys.example/{number}", f"2001:db8::{number:x}", 0)
    ]

    assert len(fetched) <= NEW_URLS_PER_MINUTE + 3
