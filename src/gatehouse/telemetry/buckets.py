"""Numbers in buckets of five minutes, for the charts of one day. Pure.

Buckets begin at multiples of `STEP` of the machine's clock, so that those of several processes match. They
are kept by a number of their own. It only rises, whatever happens to the machine's clock: after a jump, the
kept buckets move to the times that the clock would have shown then.
"""

from __future__ import annotations

import math
from array import array
from typing import Final

#: Seconds per bucket.
STEP: Final = 300
#: Buckets of one day.
BUCKETS: Final = 288
#: The largest number that a bucket can hold.
_MOST: Final = 2**32 - 1
#: A longer jump of the clock moves the kept buckets (seconds). It is more than half a bucket, so that a clock
#: that drifts near half a bucket does not move them again and again.
_TOLERANCE: Final = 200.0


class Numbers:
    """A number for each of the last `BUCKETS` buckets. It needs almost no memory while all are zero."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        #: By the bucket's number modulo `BUCKETS`.
        self._values: array[int] | None = None

    def add(self, bucket: int, number: int) -> None:
        """Add to the number of a bucket."""
        if number:
            values, place = self._allocate(), bucket % BUCKETS
            values[place] = min(values[place] + number, _MOST)

    def raise_to(self, bucket: int, number: int) -> None:
        """Set the number of a bucket if it is lower."""
        if number:
            values, place = self._allocate(), bucket % BUCKETS
            values[place] = max(values[place], min(number, _MOST))

    def clear(self, buckets: range) -> None:
        """Set these buckets to zero, because they replace those of the day before."""
        if self._values is not None:
            for bucket in buckets:
                self._values[bucket % BUCKETS] = 0

    def until(self, newest: int) -> list[int]:
        """Return the numbers of all buckets, the oldest first."""
        if self._values is None:
            return [0] * BUCKETS
        oldest = (newest + 1) % BUCKETS
        return (self._values[oldest:] + self._values[:oldest]).tolist()

    def _allocate(self) -> array[int]:
        if self._values is None:
            self._values = array("I", bytes(BUCKETS * array("I").itemsize))
        return self._values


class Timeline:
    """Tells which bucket it is, and in which buckets samples were taken."""

    def __init__(self, wall: float, steady: float) -> None:
        """Begin with the first sample. The arguments are those of `advance`."""
        #: By how many buckets the machine's clock has jumped ahead.
        self._moved = round((wall - steady) / STEP)
        #: The number of the newest bucket.
        self.newest = math.floor(wall / STEP) - self._moved
        self._sampled = bytearray(BUCKETS)
        self._sampled[self.newest % BUCKETS] = 1

    def advance(self, wall: float, steady: float) -> range:
        """Note a sample, and return the buckets that began since the previous sample, `BUCKETS` at most.

        `wall` is the machine's clock (Unix seconds), and `steady` is a clock that does not jump.
        """
        ahead = wall - steady
        if abs(ahead - self._moved * STEP) > _TOLERANCE:
            self._moved = round(ahead / STEP)
        # A clock that was set back a little stays in the newest bucket until the time is there again.
        bucket = max(self.newest, math.floor(wall / STEP) - self._moved)
        begun = range(max(self.newest, bucket - BUCKETS) + 1, bucket + 1)
        for one in begun:
            self._sampled[one % BUCKETS] = 0
        self.newest = bucket
        self._sampled[bucket % BUCKETS] = 1
        return begun

    @property
    def until(self) -> int:
        """The end of the newest bucket, as the machine's clock shows it (Unix seconds)."""
        return (self.newest + self._moved + 1) * STEP

    def known(self, values: list[int], first: int) -> list[int | None]:
        """Replace the numbers that nobody knows with None.

        These are the buckets before `first`, and those without a sample, as while the machine was suspended.
        `values` is a result of `Numbers.until` for the newest bucket.
        """
        oldest = self.newest + 1 - BUCKETS
        unknown = min(max(0, first - oldest), BUCKETS)
        found: list[int | None] = [None] * unknown
        found += values[unknown:]
        if 0 in self._sampled:
            for bucket in range(oldest + unknown, self.newest + 1):
                if not self._sampled[bucket % BUCKETS]:
                    found[bucket - oldest] = None
        return found
