"""Converts between this gateway's clock and the database's clock, which all gateways share.

Several machines compare due times, leases and the expiry of keys, so these are in the database's time. A
gateway reads its own clock, and measures the difference from time to time. If somebody sets the database's
clock, the old difference is kept, so that no due time moves. If the gateway's own clock was stopped, because
the machine was suspended, the new difference is used. The time when an event was received, and the start of
its `give_up_after`, stay in the time of the gateway that received it.
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

#: Seconds between two measurements.
_EVERY: Final = 60.0
#: A smaller difference may come from the round trip.
_TOLERANCE_MS: Final = 100
_WORTH_A_WARNING_MS: Final = 1000
#: If the difference has changed by more than this, a clock was set.
_SET_MS: Final = 2000
#: A measurement with a slower round trip is too inexact.
_MAX_ROUND_TRIP_MS: Final = 1000

_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class DatabaseClock:
    """Converts between unix seconds of this process and milliseconds of the database."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offset_ms = 0
        self._measured = False
        #: How far this machine's clock had been set ahead when the difference was measured.
        self._jumped_ms = 0
        #: How far the database's clock was set ahead in total, which is not followed.
        self._database_jumped_ms = 0
        self._due = 0.0
        #: The difference to `time.monotonic()`, which no change of a machine's clock affects.
        self._monotonic_offset = 0.0

    def now(self) -> int:
        """Return the database's time, by the last measurement."""
        return milliseconds(self._clock()) + self._offset_ms

    def to_database(self, seconds: float) -> int:
        """Convert unix seconds of this process to the database's milliseconds."""
        return milliseconds(seconds) + self._offset_ms

    def from_database(self, value: int) -> float:
        """Convert milliseconds of the database to unix seconds of this process."""
        return (value - self._offset_ms) / 1000

    def deadline(self, moment: float) -> float:
        """Convert a `time.monotonic()` to the database's unix seconds."""
        return moment + self._monotonic_offset

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next measurement."""
        return time.monotonic() >= self._due

    async def measure(self, connection: Connection, *, timeout: float | None = 5.0) -> None:  # noqa: ASYNC109
        """Measure the difference to the database's clock."""
        self._due = time.monotonic() + _EVERY
        before, started = milliseconds(self._clock()), time.monotonic()
        theirs: int = await connection.fetchval(_NOW, timeout=timeout)
        if self._measured and (time.monotonic() - started) * 1000 > _MAX_ROUND_TRIP_MS:
            return
        self._monotonic_offset = theirs / 1000 - (started + time.monotonic()) / 2
        ours = (before + milliseconds(self._clock())) // 2
        offset = theirs - ours - self._database_jumped_ms
        if not self._measured or self._should_follow(offset):
            self._adopt(offset)

    def _should_follow(self, offset_ms: int) -> bool:
        """Tell whether a new difference is used. It is not if only the database's clock was set."""
        change = offset_ms - self._offset_ms
        if abs(change) <= _SET_MS:
            return abs(change) > _TOLERANCE_MS
        if abs(change - (self._local_jump() - self._jumped_ms)) <= _SET_MS:
            return True
        self._database_jumped_ms += change
        get_logger().warning("clock.jumped", seconds=round(change / 1000, 3), clock="database")
        return False

    def _local_jump(self) -> int:
        """Return how far this machine's clock was set ahead since the start, or 0 if that is unknown."""
        return milliseconds(self._clock.jumped) if isinstance(self._clock, SteadyClock) else 0

    def _adopt(self, offset_ms: int) -> None:
        self._measured = True
        self._offset_ms = offset_ms
        self._jumped_ms = self._local_jump()
        if abs(offset_ms) > _WORTH_A_WARNING_MS:
            get_logger().warning("store.clock_differs", seconds=round(offset_ms / 1000, 3))
