"""Rounds: all contestants run at the same time and take turns, in order and then in reverse.

A temporary slowdown of the machine therefore affects all of them. Each ratio compares two figures of one
round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.contestants import Contestant
from bench.load import Load, Stretch

STORED, SENT = "/webhooks/stored", "/webhooks/sent"


class Case(NamedTuple):
    """A contestant, and the requests that it gets."""

    contestant: Contestant
    path: str
    #: The displayed name, if contestant and path are not specific enough.
    title: str = ""

    @property
    def name(self) -> str:
        what = "" if self.contestant.operator_port is None else self.path.rpartition("/")[2]
        return self.title or f"{self.contestant.name} {what}".strip()


Rounds = Mapping[Case, Sequence[Stretch]]


def measure(
    load: Load,
    cases: Sequence[Case],
    *,
    rounds: int,
    seconds: float,
    warm_up: float = 1.0,
    say: Callable[[str], object],
) -> Rounds:
    """Run the turns, each of `seconds`, after a warm-up. Reports each turn to `say`."""
    found: dict[Case, list[Stretch]] = {case: [] for case in cases}
    for case in cases:
        load.run(case.contestant, case.path, warm_up)
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            stretch = load.run(case.contestant, case.path, seconds)
            found[case].append(stretch)
            figures = f"{stretch.accepted:8,.0f} accepted/s {stretch.delivered:8,.0f} delivered/s"
            say(f"  round {number + 1}  {case.name:45} {figures}")
    return found


def median(stretches: Iterable[Stretch]) -> Stretch:
    """Return the median of each figure."""
    return Stretch(*map(statistics.median, zip(*stretches, strict=True)))


def accepted(stretch: Stretch) -> float:
    """Return 2xx answers per second."""
    return stretch.accepted


def delivered(stretch: Stretch) -> float:
    """Return deliveries per second."""
    return stretch.delivered


def ratios(
    of: Sequence[Stretch], to: Sequence[Stretch], figure: Callable[[Stretch], float] = accepted
) -> list[float]:
    """Return the ratio of a figure in each round."""
    return [figure(mine) / figure(theirs) for mine, theirs in zip(of, to, strict=True)]


def ratio(
    of: Sequence[Stretch], to: Sequence[Stretch], figure: Callable[[Stretch], float] = accepted
) -> float:
    """Return the median of the ratios of a figure over all rounds."""
    return statistics.median(ratios(of, to, figure))
