"""Points in time as people name them: `1h`, `yesterday`, `2026-11-29`, RFC 3339, unix seconds. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from pydantic_core import PydanticCustomError

from gatehouse.config.quantities import parse_duration
from gatehouse.language.times import parse_time

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}
_AGO = re.compile(r"\s*ago$")
#: What a refusal says.
EXAMPLES = "1h, 2d, today, yesterday, 2026-01-31, 2026-01-31T12:00:00Z, or unix seconds"


def parse_when(text: str, now: float, zone: tzinfo) -> float | None:
    """Read a time as unix seconds; None for anything else.

    `1h` is an hour before `now`. A day begins at midnight in `zone`, where a time without an offset is too.
    """
    text = text.strip()
    word = text.lower()
    if word == "now":
        return now
    if word in _DAYS_AGO:
        today = datetime.fromtimestamp(now, zone).date()
        return _midnight(datetime.combine(today, datetime.min.time()) - timedelta(days=_DAYS_AGO[word]), zone)
    if (ago := _seconds(_AGO.sub("", word))) is not None:
        return now - ago
    if _DATE.fullmatch(text):
        return _on(text, zone)
    return parse_time(text)


def _on(date: str, zone: tzinfo) -> float | None:
    try:
        return _midnight(datetime.fromisoformat(date), zone)
    except ValueError:
        return None


def _midnight(day: datetime, zone: tzinfo) -> float | None:
    try:
        return day.replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        return None


def _seconds(text: str) -> float | None:
    try:
        return float(parse_duration(text))
    except PydanticCustomError:
        return None
