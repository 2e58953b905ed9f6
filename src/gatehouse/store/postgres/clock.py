"""The database's clock, which all gateways on it share.

Due times, leases and the expiry of keys are compared by several machines, so they are kept in the time of the
one machine they share. The gateway's own clock is what it asks; how far the two are apart is measured now and
then. When the database's clock is set, the measure of before is kept: no due time moves. It is renewed
when it was the gateway's own clock that stood still, as that of a machine does that is suspended. When an
event was received, and from when it counts as given up, stay in the time of who received it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gatehouse.store.clock import SteadyClock
from gatehouse.store.rows import milliseconds
from gatehouse.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatehouse.store.postgres.connection import Connection

_EVERY: Final = 60.0
#: A smaller difference may be that of the way there and back.
_TOLERANCE_MS: Final = 100
_WORTH_A_WARNING_MS: Final = 1000
#: A difference that changed by more since the last time: a clock was set.
_SET_MS: Final = 2000
#: A measurement over a slower way tells too little.
_SLOWEST_MS: Final = 1000

_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class DatabaseClock:
    """Converts between unix seconds of this process and milliseconds of the database."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offset_ms = 0
        self._measured = False
        #: How far this machine's clock had been set ahead, by then.
        self._jumped_ms = 0
        #: How far the database's was, in all: that is left out.
        self._set_ms = 0
        self._due = 0.0
        #: What is to be added to `time.monotonic()`, which goes on whatever is done to a machine's time.
        self._monotonic_offset = 0.0

    def now(self) -> int:
        """Return the database's time, as well as it is known."""
        return milliseconds(self._clock()) + self._offset_ms

    def to_database(self, seconds: float) -> int:
        """Convert a time of the API."""
        return milliseconds(seconds) + self._offset_ms

    def from_database(self, value: int) -> float:
        """Convert a time of the database."""
        return (value - self._offset_ms) / 1000

    def deadline(self, moment: float) -> float:
        """Convert a time of `time.monotonic()` to the database's unix seconds."""
        return moment + self._monotonic_offset

    @property
    def is_due(self) -> bool:
        """Whether it is time to measure again."""
        return time.monotonic() >= self._due

    async def measure(self, connection: Connection, *, timeout: float | None = 5.0) -> None:  # noqa: ASYNC109
        """Ask the database for its time."""
        self._due = time.monotonic() + _EVERY
        before, started = milliseconds(self._clock()), time.monotonic()
        theirs: int = await connection.fetchval(_NOW, timeout=timeout)
        if self._measured and (time.monotonic() - started) * 1000 > _SLOWEST_MS:
            return
        self._monotonic_offset = theirs / 1000 - (started + time.monotonic()) / 2
        ours = (before + milliseconds(self._clock())) // 2
        offset = theirs - ours - self._set_ms
        if not self._measured or self._is_ours_to_follow(offset):
            self._adopt(offset)

    def _is_ours_to_follow(self, offset_ms: int) -> bool:
        """Tell whether a difference is taken over: not when the database's clock alone was set."""
        change = offset_ms - self._offset_ms
        if abs(change) <= _SET_MS:
            return abs(change) > _TOLERANCE_MS
        if abs(change - (self._ours_jumped() - self._jumped_ms)) <= _SET_MS:
            return True
        self._set_ms += change
        get_logger().warning("clock.jumped", seconds=round(change / 1000, 3), clock="database")
        return False

    def _ours_jumped(self) -> int:
        """Return how far this machine's clock was set ahead since the start, if that is known."""
        return milliseconds(self._clock.jumped) if isinstance(self._clock, SteadyClock) else 0

    def _adopt(self, offset_ms: int) -> None:
        self._measured = True
        self._offset_ms = offset_ms
        self._jumped_ms = self._ours_jumped()
        if abs(offset_ms) > _WORTH_A_WARNING_MS:
            get_logger().warning("store.clock_differs", seconds=round(offset_ms / 1000, 3))
