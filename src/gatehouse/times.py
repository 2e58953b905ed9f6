"""Points in time: read from what providers send, written as RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
_UNIX = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
#: Whole numbers from here on are milliseconds: as seconds they would be past the year 5138.
_MILLISECONDS_FROM = 100_000_000_000


def parse_iso8601(text: str) -> float | None:
    """Read an ISO 8601 date and time as unix seconds; without an offset it is UTC."""
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_time(text: str) -> float | None:
    """Read ISO 8601, unix seconds or unix milliseconds as unix seconds; None for anything else."""
    if not _UNIX.fullmatch(text):
        return parse_iso8601(text)
    number = float(text)
    return number / 1000 if number >= _MILLISECONDS_FROM else number


def rfc3339(seconds: float) -> str:
    """Write unix seconds as RFC 3339 in UTC: no fraction when it is zero, else up to microseconds."""
    text = datetime.fromtimestamp(round(seconds, 6), UTC).isoformat()[: -len("+00:00")]
    return (text.rstrip("0") if "." in text else text) + "Z"
