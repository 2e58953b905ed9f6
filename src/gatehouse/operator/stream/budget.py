"""Limits how much of the gateway's time the readers of the stream take. Pure."""

from __future__ import annotations

from typing import Final

#: The part of the time that all readers together may take, and their part while the gateway is busy.
SHARE: Final = 0.03
SHARE_BUSY: Final = 0.005
#: The process is busy when it uses this part of a core. It can hardly use more than one core, because its
#: threads share the interpreter.
_BUSY: Final = 0.75


class Budget:
    """The budget of all readers. Times are in seconds."""

    def __init__(self, share: float = SHARE, share_busy: float = SHARE_BUSY) -> None:
        self._share = share
        self._share_busy = share_busy
        self._at = self._cpu = 0.0

    def pause(self, worked: float, now: float, cpu: float) -> float:
        """Return how long to do nothing for the readers, after work that took `worked` of processor time.

        `now` is the time, and `cpu` the processor time of the process. The process was busy if it used most
        of a core since the last call.
        """
        elapsed, used = now - self._at, cpu - self._cpu
        self._at, self._cpu = now, cpu
        return worked / (self._share_busy if used > _BUSY * elapsed else self._share)
