"""A clock that goes on evenly when somebody sets the machine's clock.

Due times, leases, give-up times and retention compare times that lie minutes or days apart. If the machine's
clock is set in between, such a comparison would be wrong by as much: retries would wait for hours, or what is
to be kept for days would be removed. So all of that goes by a `SteadyClock`. It shows the machine's time when
the process starts, and counts on from there. Signatures and what is written for people go by the machine's.

The steady clock follows the machine's slowly, as far as crystals and NTP differ. A difference that comes all
at once is a jump: it is logged, and not followed until the process starts again.
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
#: A difference that grew by more since the last time is a jump (seconds). NTP sets a clock by less.
_JUMP: Final = 2.0
#: How fast the steady clock follows: what NTP corrects a clock by at the most (seconds per second).
_FASTEST: Final = 0.0005


def elapsed() -> float:
    """Return seconds that only go on, with those in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):  # Linux has it
    elapsed = time.monotonic


class SteadyClock:
    """Unix seconds that never jump."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed) -> None:
        """`wall`: the machine's clock. `elapsed`: seconds that only go on."""
        self._wall = wall
        self._elapsed = elapsed
        self._base = wall() - elapsed()
        self._compared_at = elapsed()
        #: How far the machine's clock was set ahead in all.
        self._jumped = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self._base + self._elapsed()

    @property
    def jumped(self) -> float:
        """How far the machine's clock was set ahead since the start, in all (seconds)."""
        return self._jumped

    def shown(self, moment: float) -> float:
        """Return what the machine's clock shows at a time of this one, if it is not set until then."""
        return moment + self._wall() - self()

    def compare(self) -> float:
        """Look at the machine's clock. Returns by how many seconds it jumped since the last time, or 0."""
        now = self._elapsed()
        apart = self._wall() - (self._base + now) - self._jumped
        if abs(apart) > _JUMP:
            self._jumped += apart
            self._compared_at = now
            return apart
        most = (now - self._compared_at) * _FASTEST
        self._base += max(-most, min(most, apart))
        self._compared_at = now
        return 0.0

    async def watch(self) -> None:
        """Compare the clocks all the time, and log the jumps."""
        while True:
            if seconds := self.compare():
                get_logger().warning("clock.jumped", seconds=round(seconds, 3))
            await asyncio.sleep(_EVERY)
