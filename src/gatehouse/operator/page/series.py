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
