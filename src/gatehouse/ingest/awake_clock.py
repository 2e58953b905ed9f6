"""A clock that stands still while this process does: stopped, suspended, or kept from its event loop.

After such a stop timers go off before anything is read that has arrived meanwhile. Whoever had kept a
deadline would be refused for a delay of ours.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks at whether time has gone by unseen.
_TICK: Final = 0.25
#: Seconds by which a look may be late on a busy machine.
_SLACK: Final = 0.05
#: Seconds in which the event loop reads all that has arrived, before anybody is refused.
_READS_WITHIN: Final = 0.05
#: A stop of this many seconds can make late what was on time.
LONG_STOP: Final = 5.0
#: Seconds after a long stop in which what arrived during it is worked on.
_RECOVERY: Final = 5.0


class AwakeClock:
    """Counts the seconds in which this process could do something."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: Seconds that went by unseen, in all.
        self.stopped = 0.0
        #: Until when the process is known to be awake. Before the start it always is.
        self._awake_until = math.inf
        self._last_long_stop = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, on the event loop that runs."""
        self._awake_until = self._now()
        self._tick()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._awake_until = math.inf

    def time(self) -> float:
        """Return seconds of being awake, counted from some moment."""
        return min(self._now(), self._awake_until) - self.stopped

    def was_stopped_recently(self) -> bool:
        """Tell whether there was a long stop just now."""
        now = self._now()
        return now - self._awake_until >= LONG_STOP or now - self._last_long_stop < _RECOVERY

    def call_later(self, seconds: float, act: Callable[[], object]) -> AwakeTimer:
        """Call a function when it has been awake for so long, and has read what had arrived until then."""
        return AwakeTimer(self, seconds, act)

    def _tick(self) -> None:
        now = self._now()
        unseen = now - self._awake_until
        if unseen > 0:
            self.stopped += unseen
            if unseen >= LONG_STOP:
                self._last_long_stop = now
        self._awake_until = now + _TICK + _SLACK
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)


class AwakeTimer:
    """Something that is to be done at a time of an `AwakeClock`."""

    __slots__ = ("_act", "_clock", "_handle", "_loop", "_until")

    def __init__(self, clock: AwakeClock, seconds: float, act: Callable[[], object]) -> None:
        self._clock = clock
        self._act = act
        self._until = clock.time() + seconds
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds, self._check)

    def cancel(self) -> None:
        """Do nothing any more."""
        self._handle.cancel()

    def _check(self) -> None:
        left = self._until - self._clock.time()
        if left > 0:
            self._handle = self._loop.call_later(left, self._check)
        else:
            self._handle = self._loop.call_later(_READS_WITHIN, self._check_again)

    def _check_again(self) -> None:
        if self._until > self._clock.time():
            self._check()
        else:
            self._act()
