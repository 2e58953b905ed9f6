"""Measures the accepted rate under overload, and the latency of the answers to refused requests."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from bench.contestants import Contestant
from bench.load import Load, Stretch
from bench.report import Section, Table, goal
from bench.rounds import STORED, median

_ORDINARY = (32, 128)
_MANY = 4000
_TIMES = 10
_SECONDS = 5.0
_LEAST_SHARE, _MOST_SECONDS = 0.8, 1.0

_TEXT = f"""
This test measures the gateway without deliveries and with an increasing number of connections. Each
connection sends its next request as soon as it has its answer, even if the answer is 503 with `Retry-After`.
The *peak* is the accepted rate with {_ORDINARY[0]} or {_ORDINARY[1]} connections. Then there are {_TIMES}
times as many connections as at the peak, and {_MANY:,}. Goals: at least {_LEAST_SHARE} of the peak, and no
answer of any kind after more than {_MOST_SECONDS:g} s. *Broken* counts connections that were closed or had no
answer after 20 s.
"""


def measure(load: Load, on: Contestant, say: Callable[[str], object]) -> Section:
    """Find the peak, then overload the gateway, in ascending and then in descending order."""
    found: dict[int, list[Stretch]] = {}

    def turn(connections: int) -> None:
        stretch = load.run(on, STORED, _SECONDS, connections=connections, harsh=True)
        found.setdefault(connections, []).append(stretch)
        say(f"  overload {connections:6,} connections {stretch.accepted:8,.0f} /s")

    for connections in _ORDINARY:
        turn(connections)
    many = (_TIMES * peak(found), _MANY)
    for connections in (*many, *reversed((*_ORDINARY, *many))):
        turn(connections)
    return section(found)


def peak(found: Mapping[int, Sequence[Stretch]]) -> int:
    """Return the number of connections with the highest accepted rate."""
    return max(found, key=lambda connections: statistics.median(each.accepted for each in found[connections]))


def section(found: Mapping[int, Sequence[Stretch]]) -> Section:
    """Return the table of medians, with the slowest answer of all turns."""
    ordinary = {connections: found[connections] for connections in _ORDINARY}
    best = median(ordinary[peak(ordinary)]).accepted
    columns = (
        "connections",
        "accepted/s",
        "of the peak",
        "goal",
        "slowest s",
        "goal",
        "p99 ms",
        "503/s",
        "broken",
    )
    rows = [_row(connections, stretches, best) for connections, stretches in found.items()]
    return Section("Overload", _TEXT.strip(), Table(columns, rows))


def _row(connections: int, stretches: Sequence[Stretch], best: float) -> tuple[str, ...]:
    middle, slowest = median(stretches), max(stretch.slowest for stretch in stretches) / 1000
    return (
        f"{connections:,}",
        f"{middle.accepted:,.0f}",
        f"{middle.accepted / best:.2f}",
        goal(middle.accepted / best, _LEAST_SHARE) if connections not in _ORDINARY else "",
        f"{slowest:.2f}",
        goal(slowest, _MOST_SECONDS, most=True),
        f"{middle.p99:.0f}",
        f"{middle.unavailable / _SECONDS:,.0f}",
        f"{sum(stretch.broken for stretch in stretches):,}",
    )
