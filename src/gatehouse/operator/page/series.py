"""Reads the buckets of the history: sums, parts of equal length, and silence. Pure.

A bucket is None when nobody counted.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Buckets = list[int | None]
#: Fewer buckets with events say nothing about how long a source is usually silent.
_BUSY_ENOUGH: Final = 12
#: A silence has to be so many times as long as the longest one before.
_UNUSUAL: Final = 2
#: Seconds. A shorter silence is never unusual.
_SHORT: Final = 1800.0


class Series(NamedTuple):
    """One color of a chart: its name, its class (`c-…`), and a value for each part of the time."""

    name: str
    kind: str
    values: Buckets


class Silence(NamedTuple):
    """A source has been silent for unusually long (seconds)."""

    lasts: float
    longest_before: float


def total(buckets: Buckets) -> int:
    """Return the sum of what was counted."""
    return sum(filter(None, buckets))


def named(entries: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return the entry of the history with this name; None right after a reload added the name."""
    return next((entry for entry in entries if entry["name"] == name), None)


def parts(buckets: Buckets, each: int, combine: Callable[[list[int]], int] = sum) -> Buckets:
    """Combine so many neighbors each."""
    cut = [buckets[first : first + each] for first in range(0, len(buckets), each)]
    known = [[value for value in part if value is not None] for part in cut]
    return [combine(part) if part else None for part in known]


def added(lists: Sequence[Buckets]) -> Buckets:
    """Add up several histories of the same time."""
    together = (([value for value in values if value is not None]) for values in zip(*lists, strict=True))
    return [sum(known) if known else None for known in together]


def hourly(
    start: float, step: float, buckets: Buckets, combine: Callable[[list[int]], int] = sum
) -> dict[float, int | None]:
    """Combine the buckets of each full hour, the newest first. The keys are when the hours begin."""
    by_hour: dict[float, list[int]] = {}
    for position, value in reversed(list(enumerate(buckets))):
        hour = (start + position * step) // 3600 * 3600
        by_hour.setdefault(hour, []).extend([] if value is None else [value])
    return {hour: combine(known) if known else None for hour, known in by_hour.items()}


def silence(accepted: Buckets, step: float) -> Silence | None:
    """Return how long a source has been silent, if that is unusual for its last 24 hours.

    The last bucket is in progress. `step` is the length of a bucket in seconds.
    """
    if sum(bool(count) for count in accepted) < _BUSY_ENOUGH:
        return None
    *runs, (is_silent, length) = [
        (silent, sum(1 for _ in run)) for silent, run in groupby(accepted, key=lambda count: count == 0)
    ]
    before = max((length for silent, length in runs if silent), default=1) * step
    lasts = (length - 1) * step
    if is_silent and lasts >= max(_SHORT, _UNUSUAL * before):
        return Silence(lasts, before)
    return None
