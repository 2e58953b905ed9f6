"""What was asked for a moment ago: a second click, or a second operator, is no second wish."""

from __future__ import annotations

#: How long a moment is (seconds).
MOMENT = 10.0
#: More are not remembered at a time.
_MOST = 10_000


class JustNow:
    """Remembers things for a moment. Times are of a clock that never goes back."""

    def __init__(self) -> None:
        #: By what was asked for: when. The longest ago first.
        self._claims: dict[tuple[str, ...], float] = {}

    def claim(self, thing: tuple[str, ...], now: float) -> bool:
        """Tell whether it is asked for the first time in a moment, and remember that it is now."""
        self._forget_old(now)
        if thing in self._claims:
            return False
        self._claims[thing] = now
        return True

    def give_up(self, thing: tuple[str, ...]) -> None:
        """Forget it: nothing came of it, so that asking again is no second time."""
        self._claims.pop(thing, None)

    def _forget_old(self, now: float) -> None:
        while self._claims:
            oldest = next(iter(self._claims))
            if now - self._claims[oldest] < MOMENT and len(self._claims) < _MOST:
                break
            del self._claims[oldest]
