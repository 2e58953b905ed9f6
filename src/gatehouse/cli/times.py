"""Writes times of the API as people say them: `12 s ago`, `in 3 min`."""

from __future__ import annotations

import time
from datetime import datetime

#: The seconds of each unit, from the largest.
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))
#: A unit is used from this number of it on: below 2 d, hours are shown.
_FROM = 2


def unix(moment: str) -> float:
    """Return a time of the API (RFC 3339) in Unix seconds."""
    return datetime.fromisoformat(moment).timestamp()


def ago(moment: str | None, now: float | None = None, *, never: str = "never") -> str:
    """Say how long ago a time of the API is. `now` is in Unix seconds, by default that of this machine."""
    if moment is None:
        return never
    return f"{duration((time.time() if now is None else now) - unix(moment))} ago"


def until(moment: str, now: float) -> str:
    """Say how long it is until a time of the API. `now` is in Unix seconds."""
    seconds = unix(moment) - now
    return "now" if seconds < 1 else f"in {duration(seconds)}"


def duration(seconds: float) -> str:
    """Write a duration in one unit: `45 s`, `3 min`, `47 h`, `5 d`."""
    for unit, length in _UNITS:
        if seconds >= _FROM * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
