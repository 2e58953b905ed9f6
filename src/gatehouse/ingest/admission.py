"""Admission: how many requests are worked on at once. The others wait before anything is done for them.

Under overload every request that is taken on makes the others later, until all of them are too late and
nothing is accepted. What waits here has cost next to nothing: its bytes are read, and not looked at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

#: Enough for a few full commits to be under way; with more, a turn of the event loop takes ever longer.
MOST: Final = 512
#: Seconds of waiting after which a request is refused: its commit would take it past the second it has.
PATIENCE: Final = 0.5
#: How many are refused in one turn of the event loop. A thousand at once would make late what is on time.
_SLICE: Final = 64


class Waiting(Protocol):
    """A connection that has sent something."""

    def admit(self) -> None:
        """Go on with what was sent."""

    def refuse_late(self) -> None:
        """Answer 503 to what was sent."""


class Admission:
    """Lets requests in: as many as may be worked on, in the order they came."""

    def __init__(self, clock: Callable[[], float], most: int = MOST, patience: float = PATIENCE) -> None:
        self._clock = clock
        self._most = most
        self._patience = patience
        self._busy = 0
        self._is_admitting = False
        self._waiting: deque[tuple[float, Waiting]] = deque()
        self._late: deque[Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> bool:
        """Take a place, to be given back with `leave`. Whoever gets none waits with `wait`."""
        if self._busy >= self._most or self._waiting:
            return False
        self._busy += 1
        return True

    def wait(self, one: Waiting) -> None:
        """Have it admitted when its turn comes, with a place, or refused when it is late."""
        self._waiting.append((self._clock() + self._patience, one))
        if self._timer is None:
            self._watch(self._patience)

    def leave(self) -> None:
        """Give a place back, to the next one if there is any."""
        self._busy -= 1
        if self._waiting and not self._is_admitting:
            # One that is gone leaves at once. In a loop: a thousand of them in turn would be too deep a nest.
            self._is_admitting = True
            try:
                self._admit_next()
            finally:
                self._is_admitting = False

    def _admit_next(self) -> None:
        self._set_late_aside()
        while self._waiting and self._busy < self._most:
            self._busy += 1
            self._waiting.popleft()[1].admit()

    def _set_late_aside(self) -> None:
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            self._late.append(self._waiting.popleft()[1])

    def _watch(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Refuse what is late, also when nothing leaves: a store that stalls keeps every place."""
        self._timer = None
        self._set_late_aside()
        for _ in range(min(_SLICE, len(self._late))):
            self._late.popleft().refuse_late()
        if self._late:
            self._watch(0)
        elif self._waiting:
            self._watch(max(0.0, self._waiting[0][0] - self._clock()))
