"""The times of providers are parsed and formatted as RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.language.times import as_rfc3339, parse_iso8601, parse_time, rfc3339


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-15T10:00:15.000Z", "2025-01-15T10:00:15Z"),
        ("2025-01-15T10:00:15.250Z", "2025-01-15T10:00:15.25Z"),
        ("2025-01-15T11:00:15+01:00", "2025-01-15T10:00:15Z"),
        ("2025-01-15 10:00:15", "2025-01-15T10:00:15Z"),
        ("2025-01-15T10:00Z", "2025-01-15T10:00:00Z"),
        ("2025-01-15T10:00:15.123456789Z", "2025-01-15T10:00:15.123456Z"),
        ("1762780249", "2025-11-10T13:10:49Z"),
        ("1762780249000", "2025-11-10T13:10:49Z"),
        ("1762780249.5", "2025-11-10T13:10:49.5Z"),
    ],
)
def test_the_formats_of_providers_are_parsed(text: str, expected: str) -> None:
    seconds = parse_time(text)

    assert seconds is not None
    assert rfc3339(seconds) == as_rfc3339(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "nan",
        "-1",
        "+1",
        " 1",
        "1_0",
        "١٢٣",
        "1\n",
        "1" * 400,
        "2025-13-01T00:00:00Z",
        "2025-W03",
        "9999-99-99T99:99:99Z",
        "9" * 15,
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_text_that_is_not_a_time_is_refused(text: str) -> None:
    assert parse_time(text) is None
    assert as_rfc3339(text) is None


@given(st.integers(-62_135_596_800 * 10**6, 253_402_300_799 * 10**6))
def test_a_time_in_rfc_3339_is_not_changed(microseconds: int) -> None:
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()
    fraction = text.removesuffix("+00:00").partition(".")[2].rstrip("0")
    written = text[: len("2025-01-15T10:00:15")] + (f".{fraction}" if fraction else "") + "Z"

    assert as_rfc3339(written) == written


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    parse_iso8601(text)
    seconds = parse_time(text)
    assert seconds is None or rfc3339(seconds).endswith("Z")


@given(st.from_regex(r"[0-9]{1,15}(\.[0-9]{1,9})?", fullmatch=True) | st.datetimes().map(str))
def test_every_parsed_time_can_be_formatted(text: str) -> None:
    seconds = parse_time(text)
    assert seconds is None or rfc3339(seconds).endswith("Z")


@given(st.integers(0, 4_000_000_000))
def test_a_formatted_time_can_be_parsed(seconds: int) -> None:
    assert parse_time(rfc3339(seconds)) == seconds
