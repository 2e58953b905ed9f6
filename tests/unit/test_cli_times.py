"""Times of the API as people say them."""

from __future__ import annotations

import pytest

from gatehouse.cli.times import ago, duration, until

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (86400 * 3, "3 d"),
    ],
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_relative_to_now() -> None:
    assert ago("2027-01-15T07:59:00Z", NOW) == "60 s ago"
    assert ago(None, NOW, never="-") == "-"
    assert until("2027-01-15T08:00:12.5Z", NOW) == "in 12 s"
    assert until("2027-01-15T07:00:00Z", NOW) == "now"
