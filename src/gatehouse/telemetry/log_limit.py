"""A limit on log lines that anyone can cause: a flood of requests must not become a flood of lines."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Lines of one kind that are written at once, and per second after that.
_BURST: Final = 50
_PER_SECOND: Final = 10
#: Seconds after which the lines that were left out are counted in a line of their own.
_REPORT_AFTER: Final = 1.0


class _Kind:
    """The lines of one kind."""

    __slots__ = ("left", "suppressed", "updated")

    def __init__(self, now: float) -> None:
        #: How many may be written now.
        self.left = float(_BURST)
        self.updated = now
        self.suppressed = 0


class LineLimit:
    """Says which lines are written. Those of the same kind, which is a few names and values, share a limit.

    What is left out is counted and reported within about a second. Kinds come from the config and from closed
    sets, so their number is bounded.
    """

    def __init__(
        self,
        report: Callable[[int, Mapping[str, str | None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is called with how many lines of a kind were left out, and the kind."""
        self._write_report = report
        self._clock = clock
        self._kinds: dict[tuple[tuple[str, str | None], ...], _Kind] = {}
        self._timer: asyncio.TimerHandle | None = None

    def allows(self, **kind: str | None) -> bool:
        """Tell whether a line of this kind is written."""
        now = self._clock()
        one = self._kinds.setdefault(tuple(kind.items()), _Kind(now))
        one.left = min(_BURST, one.left + (now - one.updated) * _PER_SECOND)
        one.updated = now
        if one.left >= 1:
            one.left -= 1
            return True
        one.suppressed += 1
        if self._timer is None:
            self._report_soon()
        return False

    def report(self) -> None:
        """Report now how many lines were left out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, one in self._kinds.items():
            if one.suppressed:
                count, one.suppressed = one.suppressed, 0
                self._write_report(count, dict(kind))

    def _report_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop here: the next report counts it
            return
        self._timer = loop.call_later(_REPORT_AFTER, self.report)
