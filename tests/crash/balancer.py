"""What stands before several gateways: each request goes to one of them, as with a load balancer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING

from crash.sender import Target

if TYPE_CHECKING:
    from crash.ledger import Answer

#: Seconds for which a gateway that failed is sent nothing, as long as there is another.
_REST = 1.0


@dataclass
class _Place:
    url: str
    under_way: int = 0
    rests_until: float = 0.0


class Balancer(Target):
    """Chooses whoever has the fewest requests under way, so that one that hangs is sent a few and no more."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._places: dict[int, _Place] = {}

    def add(self, url: str) -> int:
        """Send to this gateway too; return the number of its life."""
        self.serve(url)
        self._places[self.life] = _Place(url)
        return self.life

    def remove(self, life: int) -> None:
        """Send nothing more to this one."""
        del self._places[life]
        if not self._places:
            self.gone()

    def choose(self) -> tuple[int, str]:
        now = time.monotonic()
        fit = [life for life, place in self._places.items() if place.rests_until <= now]
        life = min(fit or self._places, key=self._load)
        self._places[life].under_way += 1
        return life, self._places[life].url

    def answered(self, answer: Answer) -> None:
        place = self._places.get(answer.life)
        if place is None:
            return
        place.under_way -= 1
        if not answer.status or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            place.rests_until = time.monotonic() + _REST

    def _load(self, life: int) -> tuple[int, float]:
        return self._places[life].under_way, self._random.random()
