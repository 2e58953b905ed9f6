"""`growing` accepts work that costs the same for each part of it, and fails for work that does not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from growth import growing


def run(monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float]) -> list[int]:
    """Do work of a cost for all sizes, and return them."""
    now = 0.0
    monkeypatch.setattr(time, "process_time", lambda: now)
    sizes = []
    for size in growing(4000):
        sizes.append(size)
        now += cost(size)
    return sizes


def test_work_that_grows_with_its_size_is_accepted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, lambda size: 0.5 + size) == [1000, 1000, 4000]


def test_work_that_a_busy_machine_delays_is_accepted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    delays = iter([0, 0, 9000, 0, 0])

    assert run(monkeypatch, lambda size: size + next(delays)) == [1000, 1000, 4000, 1000, 4000]


def test_work_that_grows_with_the_square_of_its_size_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"takes 16\.0 times as long"):
        run(monkeypatch, lambda size: size**2)
