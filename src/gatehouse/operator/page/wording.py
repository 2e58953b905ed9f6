"""Words for times, numbers and sizes. Pure: `now` is Unix time, and times of the API are RFC 3339."""

from __future__ import annotations

from typing import Final

from gatehouse.language.times import parse_time, rfc3339

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
#: After this many days, a date says more than "12 d ago".
_MANY_DAYS: Final = 14
_KIBI: Final = 1024
#: An en dash.
_NONE: Final = "\u2013"


def ago(time: str | None, now: float) -> str:
    """Say how long ago a time is, or how far ahead: `3 min ago`, `in 41 s`."""
    at = None if time is None else parse_time(time)
    if time is None or at is None:
        return "never"
    distance = now - at
    if abs(distance) >= _MANY_DAYS * _DAY:
        return time[:10]
    if abs(distance) < 1:
        return "now"
    return f"{seconds(distance)} ago" if distance > 0 else f"in {seconds(-distance)}"


def how_long(since: str, now: float) -> str:
    """Say how long something has lasted that began at a time: `41 s`."""
    at = parse_time(since)
    return seconds(max(now - (now if at is None else at), 1))


def seconds(duration: float) -> str:
    """Say a duration in one or two units: `41 s`, `3 min`, `2 h 5 min`, `4 d`."""
    whole = int(duration)
    if whole < 1:
        return f"{duration * 1000:.0f} ms"
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        minutes = whole % _HOUR // _MINUTE
        return f"{whole // _HOUR} h" + (f" {minutes} min" if minutes else "")
    hours = whole % _DAY // _HOUR
    return f"{whole // _DAY} d" + (f" {hours} h" if hours else "")


def precisely(time: str | None) -> str:
    """Return the time as people read it, in UTC, with milliseconds: `2026-01-31 10:00:16.25 UTC`."""
    at = None if time is None else parse_time(time)
    return "" if at is None else rfc3339(round(at, 3)).replace("T", " ").replace("Z", " UTC")


def clock(time: str | None) -> str:
    """Return the time of day, in UTC: `10:00:16`."""
    return precisely(time).removesuffix(" UTC").partition(" ")[2]


def number(value: float | None) -> str:
    """Return a number with groups of digits: `1,204`. A rate has one digit after the point."""
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def size(value: float | None) -> str:
    """Return a number of bytes: `12 B`, `1.5 KiB`, `3.2 GiB`."""
    if value is None:
        return _NONE
    left = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < _KIBI:
            return f"{left:.0f} {unit}" if unit == "B" or left >= 100 else f"{left:.1f} {unit}"  # noqa: PLR2004
        left /= _KIBI
    return f"{left:.1f} TiB"


def sentence(message: str) -> str:
    """Return a message of the API, which begins with a small letter and has no full stop, as a sentence."""
    first, space, rest = message.partition(" ")
    begin = first.capitalize() if first.isalpha() and first.islower() else first
    return f"{begin}{space}{rest}" + ("" if message.endswith((".", "?")) else ".")
