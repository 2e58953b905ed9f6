"""Parses the times that providers send, and formats times as RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

#: A time in the format of `rfc3339`, for the types of API answers and similar records.
Rfc3339 = Annotated[str, Meta(examples=["2026-01-31T10:00:16Z"], extra_json_schema={"format": "date-time"})]

_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
#: The format of `rfc3339`.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z", re.ASCII)
_UNIX = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
#: Numbers from here on are milliseconds. As seconds, they would be after the year 5138.
_MILLISECONDS_FROM = 100_000_000_000
#: The range of RFC 3339: the years 1 to 9999.
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799


def parse_iso8601(text: str) -> float | None:
    """Parse an ISO 8601 date and time to Unix seconds.

    Without an offset, it is UTC. None for anything else.
    """
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _in_range((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def parse_time(text: str) -> float | None:
    """Parse ISO 8601, Unix seconds or Unix milliseconds to Unix seconds. None for anything else."""
    if not _UNIX.fullmatch(text):
        return parse_iso8601(text.removesuffix(" UTC"))  # the format of Ruby
    number = float(text)
    return _in_range(number / 1000 if number >= _MILLISECONDS_FROM else number)


def as_rfc3339(text: str) -> str | None:
    """Convert a text that `parse_time` accepts to RFC 3339 in UTC. None for anything else."""
    if not _RFC3339.fullmatch(text):
        seconds = parse_time(text)
        return None if seconds is None else rfc3339(seconds)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def _in_range(seconds: float) -> float | None:
    return seconds if _EARLIEST <= seconds <= _LATEST else None


def rfc3339(seconds: float) -> str:
    """Format Unix seconds as RFC 3339 in UTC, with up to six decimals, and without a zero fraction."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    if not microseconds:
        return _date_time(whole) + "Z"
    return f"{_date_time(whole)}.{microseconds:06d}".rstrip("0") + "Z"


@lru_cache(maxsize=256)
def _date_time(seconds: int) -> str:
    """Format a whole second. Cached, because times that are formatted together are usually close together."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[: -len("+00:00")]
