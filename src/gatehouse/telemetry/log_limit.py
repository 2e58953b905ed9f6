"""Limits log lines that anyone can cause, so that a flood of requests does not become a flood of lines."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Lines of one kind: the initial burst, and the rate per second after it.
_BURST: Final = 50
_PER_SECOND: Final = 10
#: Seconds after which a separate line reports the number of suppressed lines.
_REPORT_AFTER: Final = 1.0


class _KindState:
    """The state of one kind of line."""

    __slots__ = ("suppressed", "tokens", "updated")

    def __init__(self, now: float) -> None:
        #: How many lines may be written now.
        self.tokens = float(_BURST)
        self.updated = now
        self.suppressed = 0


class LineLimit:
    """A rate limit per kind of line. A kind is a set of a few names and values.

    Suppressed lines are counted and reported within about a second. Kinds consist of values from the config
    and of fixed values, so their number is limited.
    """

    def __init__(
        self,
        report: Callable[[int, Mapping[str, str | None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` gets the number of suppressed lines of a kind, and the kind."""
        self._write_report = report
        self._clock = clock
        self._kinds: dict[tuple[tuple[str, str | None], ...], _KindState] = {}
        self._timer: asyncio.TimerHandle | None = None

    def allows(self, **kind: str | None) -> bool:
        """Return whether a line of this kind may be written."""
        now = self._clock()
        state = self._kinds.setdefault(tuple(kind.items()), _KindState(now))
        state.tokens = min(_BURST, state.tokens + (now - state.updated) * _PER_SECOND)
        state.updated = now
        if state.tokens >= 1:
            state.tokens -= 1
            return True
        state.suppressed += 1
        if self._timer is None:
            self._report_soon()
        return False

    def report(self) -> None:
        """Report the number of suppressed lines now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, state in self._kinds.items():
            if state.suppressed:
                count, state.suppressed = state.suppressed, 0
                self._write_report(count, dict(kind))

    def _report_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop here: the next report includes these lines
            return
        self._timer = loop.call_later(_REPORT_AFTER, self.report)
