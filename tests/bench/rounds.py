"""Rounds: all contestants run at the same time and take their turns, forwards and backwards.

What slows the machine for a while then slows all of them, and a ratio is of two figures of one round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.contestants import Contestant
from bench.load import Load, Stretch

STORED, SENT = "/webhooks/stored", "/webhooks/sent"


class Case(NamedTuple):
    """A contestant, and what is sent to it."""

    contestant: Contestant
    path: str
    #: What it is called, where contestant and path don't say enough.
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
    """Let all have their turns of so many seconds, after a warm-up; `say` is told of each."""
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
    """Return answers of 2xx per second."""
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
    """Return the median ratio of a figure, round by round."""
    return statistics.median(ratios(of, to, figure))
