"""Times in queries: `1h`, `yesterday`, dates and more."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.operator.queries import delivery_query, event_query, parse_point_in_time, retry_request

#: 2026-11-30 01:30 in UTC is the evening before in New York and the late morning in Tokyo.
NOW = datetime(2026, 11, 30, 1, 30, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86_400.0
MIDNIGHT = datetime(2026, 11, 30, tzinfo=UTC).timestamp()


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h", NOW - HOUR),
        ("30m", NOW - HOUR / 2),
        ("2d", NOW - 2 * DAY),
        ("1h30m", NOW - 1.5 * HOUR),
        ("2h ago", NOW - 2 * HOUR),
        ("now", NOW),
        ("today", MIDNIGHT),
        ("Today", MIDNIGHT),
        ("yesterday", MIDNIGHT - DAY),
        ("2026-11-29", MIDNIGHT - DAY),
        ("2026-11-29T00:00:00Z", MIDNIGHT - DAY),
        ("2026-11-29T01:00:00+01:00", MIDNIGHT - DAY),
        ("1796000000", 1_796_000_000.0),
        ("1796000000.5", 1_796_000_000.5),
        (" 1h ", NOW - HOUR),
        ("yesteryear", None),
        ("2026-13-01", None),
        ("2026-11-31", None),
        ("1 fortnight", None),
        ("", None),
        ("-1h", None),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC).timestamp()),
    ],
)
def test_times_are_parsed(text: str, expected: float | None) -> None:
    assert parse_point_in_time(text, NOW, UTC) == expected


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("zone", "today"),
    [("America/New_York", (2026, 11, 29)), ("Asia/Tokyo", (2026, 11, 30)), ("Europe/Berlin", (2026, 11, 30))],
)
def test_a_day_begins_at_midnight_in_the_given_zone(zone: str, today: tuple[int, int, int]) -> None:
    place = ZoneInfo(zone)
    assert parse_point_in_time("today", NOW, place) == datetime(*today, tzinfo=place).timestamp()
    assert parse_point_in_time("2026-07-01", NOW, place) == datetime(2026, 7, 1, tzinfo=place).timestamp()


@pytest.mark.case("F-54")
def test_a_day_of_23_hours_is_one_day_back() -> None:
    place = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 3, 29, 12, tzinfo=place).timestamp()  # the clocks went forward at 2
    assert parse_point_in_time("yesterday", now, place) == datetime(2026, 3, 28, tzinfo=place).timestamp()


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert parse_point_in_time(text, NOW, UTC) is None or isinstance(
        parse_point_in_time(text, NOW, UTC), float
    )


@pytest.mark.case("F-54")
def test_the_api_accepts_them_in_every_time_filter() -> None:
    given = {"since": "2d", "until": "yesterday"}
    for query in (event_query(given, NOW), delivery_query(given, NOW), retry_request(given, NOW).query):
        assert (query.since, query.until) == (NOW - 2 * DAY, MIDNIGHT - DAY)
