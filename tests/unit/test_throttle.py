"""The rate limit spreads attempts over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.delivery.throttle import RateLimit


def starts(rate_limit: RateLimit, count: int, now: float = 0.0) -> list[float]:
    """Start as soon as allowed, repeatedly."""
    moments = []
    for _ in range(count):
        now += rate_limit.delay(now)
        rate_limit.take(now)
        moments.append(now)
    return moments


def test_the_first_start_does_not_wait() -> None:
    assert RateLimit(1 / 3600).delay(1000.0) == 0


def test_a_slow_rate_is_even() -> None:
    assert starts(RateLimit(0.5), 4, now=10.0) == pytest.approx([10, 12, 14, 16])


def test_a_pause_allows_a_burst_of_a_tenth_of_a_second() -> None:
    moments = starts(RateLimit(100), 30, now=1000.0)
    assert moments[9] == 1000
    assert moments[29] == pytest.approx(1000.2)


@given(rate=st.floats(0.001, 10_000), window=st.floats(0.1, 100))
@pytest.mark.case("O-15")
def test_no_window_contains_more_starts_than_rate_and_burst_allow(rate: float, window: float) -> None:
    moments = starts(RateLimit(rate), 300, now=5.0)
    most = rate * window + max(1.0, rate * 0.1) + 1e-6
    assert sum(1 for moment in moments if moment < 5.0 + window) <= most + 1


def test_a_clock_that_runs_backward_adds_no_tokens() -> None:
    rate_limit = RateLimit(1)
    rate_limit.take(100.0)
    assert rate_limit.delay(50.0) == pytest.approx(1)
