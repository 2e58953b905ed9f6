"""A load balancer for several gateways: it sends each request to one of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING

from crash.sender import Target

if TYPE_CHECKING:
    from crash.ledger import Answer

#: Seconds for which a gateway that failed gets no requests, as long as there is another one.
_REST = 1.0


@dataclass
class _Place:
    url: str
    in_progress: int = 0
    rests_until: float = 0.0


class Balancer(Target):
    """Chooses the gateway with the fewest open requests, so a gateway that hangs gets only a few."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._places: dict[int, _Place] = {}

    def add(self, url: str) -> int:
        """Add a gateway. Return the number of its life."""
        self.serve(url)
        self._places[self.life] = _Place(url)
        return self.life

    def remove(self, life: int) -> None:
        """Remove a gateway: it gets no more requests."""
        del self._places[life]
        if not self._places:
            self.gone()

    def choose(self) -> tuple[int, str]:
        now = time.monotonic()
        fit = [life for life, place in self._places.items() if place.rests_until <= now]
        life = min(fit or self._places, key=self._load)
        self._places[life].in_progress += 1
        return life, self._places[life].url

    def answered(self, answer: Answer) -> None:
        place = self._places.get(answer.life)
        if place is None:
            return
        place.in_progress -= 1
        if not answer.status or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            place.rests_until = time.monotonic() + _REST

    def _load(self, life: int) -> tuple[int, float]:
        return self._places[life].in_progress, self._random.random()
