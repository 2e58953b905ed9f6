"""A clock that stops while the process is stopped, suspended, or unable to run its event loop.

After such a stop, the event loop runs its timers before it reads the data that arrived meanwhile. A client
that had kept its deadline would then be refused for a delay that the gateway caused.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two ticks. A late tick shows that the process was stopped.
_TICK: Final = 0.25
#: Seconds by which a tick may be late on a busy machine.
_SLACK: Final = 0.05
#: Seconds in which the event loop reads all the data that has arrived, before any request is refused.
_READ_TIME: Final = 0.05
#: A stop of this many seconds can make a request that was sent on time too late.
LONG_STOP: Final = 5.0
#: Seconds after a long stop in which the requests that arrived during it are processed.
_RECOVERY: Final = 5.0


class AwakeClock:
    """Counts the seconds in which the process was running."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: Total seconds of all stops.
        self.stopped = 0.0
        #: The time up to which the process is known to be running. Before `start` there is no limit.
        self._awake_until = math.inf
        self._last_long_stop = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start ticking on the running event loop."""
        self._awake_until = self._now()
        self._tick()

    def stop(self) -> None:
        """Stop ticking. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._awake_until = math.inf

    def time(self) -> float:
        """Return the running time of the process in seconds, from an arbitrary start."""
        return min(self._now(), self._awake_until) - self.stopped

    def was_stopped_recently(self) -> bool:
        """Return whether a long stop has just happened."""
        now = self._now()
        return now - self._awake_until >= LONG_STOP or now - self._last_long_stop < _RECOVERY

    def call_later(self, seconds: float, callback: Callable[[], object]) -> AwakeTimer:
        """Call a function after some seconds of running time, once all data that has arrived is read."""
        return AwakeTimer(self, seconds, callback)

    def _tick(self) -> None:
        now = self._now()
        stopped = now - self._awake_until
        if stopped > 0:
            self.stopped += stopped
            if stopped >= LONG_STOP:
                self._last_long_stop = now
        self._awake_until = now + _TICK + _SLACK
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)


class AwakeTimer:
    """A timer of an `AwakeClock`."""

    __slots__ = ("_callback", "_clock", "_handle", "_loop", "_until")

    def __init__(self, clock: AwakeClock, seconds: float, callback: Callable[[], object]) -> None:
        self._clock = clock
        self._callback = callback
        self._until = clock.time() + seconds
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds, self._check)

    def cancel(self) -> None:
        """Cancel the timer."""
        self._handle.cancel()

    def _check(self) -> None:
        left = self._until - self._clock.time()
        if left > 0:
            self._handle = self._loop.call_later(left, self._check)
        else:
            self._handle = self._loop.call_later(_READ_TIME, self._check_again)

    def _check_again(self) -> None:
        if self._until > self._clock.time():
            self._check()
        else:
            self._callback()
