"""Defines `SteadyClock`, which does not jump when somebody sets the machine's clock.

Due times, leases, give-up times and retention compare times that are minutes or days apart. If the machine's
clock is set in between, the comparison is wrong by the difference: retries would wait for hours, or events
would be removed days too early. So all of these use a `SteadyClock`. It shows the machine's time when the
process starts, and continues from there. Signatures, and times shown to people, use the machine's clock.

The steady clock follows the machine's clock slowly, to make up for the drift that NTP corrects. A sudden
difference is a jump: it is logged, and not followed until the process starts again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often the two clocks are compared (seconds).
_EVERY: Final = 1.0
#: A difference that has grown by more than this since the last comparison is a jump (seconds). NTP adjusts a
#: clock by less.
_JUMP: Final = 2.0
#: How fast the steady clock follows: the maximum rate at which NTP adjusts a clock (seconds per second).
_MAX_RATE: Final = 0.0005


def elapsed() -> float:
    """Return monotonic seconds, which include the time that the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):  # Linux has it
    elapsed = time.monotonic


class SteadyClock:
    """A clock of unix seconds that never jumps."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed) -> None:
        """`wall` is the machine's clock, and `elapsed` returns monotonic seconds."""
        self._wall = wall
        self._elapsed = elapsed
        self._base = wall() - elapsed()
        self._compared_at = elapsed()
        #: How far the machine's clock was set ahead in total.
        self._jumped = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self._base + self._elapsed()

    @property
    def jumped(self) -> float:
        """How far the machine's clock was set ahead since the start, in total (seconds)."""
        return self._jumped

    def wall_time_at(self, moment: float) -> float:
        """Convert a time of this clock to the machine's clock, if that is not set until then."""
        return moment + self._wall() - self()

    def compare(self) -> float:
        """Compare with the machine's clock. Returns the seconds by which it has jumped since last time."""
        now = self._elapsed()
        difference = self._wall() - (self._base + now) - self._jumped
        if abs(difference) > _JUMP:
            self._jumped += difference
            self._compared_at = now
            return difference
        most = (now - self._compared_at) * _MAX_RATE
        self._base += max(-most, min(most, difference))
        self._compared_at = now
        return 0.0

    async def watch(self) -> None:
        """Compare the clocks once a second, and log each jump."""
        while True:
            if seconds := self.compare():
                get_logger().warning("clock.jumped", seconds=round(seconds, 3))
            await asyncio.sleep(_EVERY)
