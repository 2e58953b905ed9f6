"""Shares a destination's slots between new deliveries and those that failed before. Pure.

Retries of events that the destination cannot process may be many and slow. They get half of the slots and
half of the time at most while new deliveries wait, so those flow at half of their speed at least. While only
one kind waits, it may take all the time there is, but retries never more than half of the slots: what comes
next finds one free.
"""

from __future__ import annotations

from typing import Final

#: The most time that retries which ran alone owe to new ones, unless one of them took longer (seconds).
_MOST_OWED: Final = 60.0


class Shares:
    """The shares of one destination."""

    def __init__(self, slots: int, *, least: float = 0.0) -> None:
        """`least`: what an attempt costs at least (seconds), as with a rate."""
        self._most_retries = max(1, slots // 2)
        self._least = least
        self._retrying = 0
        #: How much more time retries had than new deliveries, lately.
        self.owed = 0.0

    @property
    def may_retry(self) -> bool:
        """Whether a slot is free for a retry."""
        return self._retrying < self._most_retries

    @property
    def prefers_new(self) -> bool:
        """Whether it is a new delivery's turn when both kinds wait."""
        return self.owed > 0 or not self.may_retry

    def started(self) -> None:
        """Count a retry that starts."""
        self._retrying += 1

    def ended(self, took: float, *, retry: bool) -> None:
        """Count an attempt that ended, and the time that it took (seconds)."""
        cost = max(took, self._least)
        if retry:
            self._retrying -= 1
            self.owed = min(self.owed + cost, max(_MOST_OWED, cost))
        else:
            self.owed = max(0.0, self.owed - cost)
