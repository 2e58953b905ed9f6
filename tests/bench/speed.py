"""Ingest and end to end: runs all contestants by turns, and builds the two tables."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.contestants import Contestant, Destinations, bare, fastapi, gateway, node
from bench.load import Stretch
from bench.machine import Places
from bench.report import Section, Table, goal, spread
from bench.rounds import SENT, STORED, Case, Rounds, accepted, delivered, median, ratios

_BATCHED, _WIDE = "/webhooks/batched", "/webhooks/wide"
TIMED = "/webhooks/timed"
_GOALS = {STORED: 0.50, SENT: 0.80, _BATCHED: 1.5}
_COLUMNS = ("p50 ms", "p99 ms", "503", "CPU")


class Running(NamedTuple):
    """The servers of one run."""

    destination: Contestant
    clock: Contestant
    handler: Contestant
    low_level: Contestant
    proxy: Contestant
    gateway: Contestant
    fastapi: Contestant | None
    node: Contestant | None

    def ingest(self) -> list[Case]:
        """Return the cases without deliveries.

        The first is the reference, the second the low-level handler.
        """
        return [
            Case(self.handler, STORED, "bare handler"),
            Case(self.low_level, STORED, "bare handler, low-level"),
            Case(self.gateway, STORED, "Gatehouse"),
            *([Case(self.fastapi, STORED, "FastAPI, SQLite")] if self.fastapi else []),
        ]

    def end_to_end(self, concurrency: int | None = None) -> list[Case]:
        """Return the cases with deliveries.

        The first is the reference. `concurrency` adds one with this limit.
        """
        cases = [
            Case(self.proxy, SENT, "bare proxy"),
            Case(self.gateway, SENT, "Gatehouse, one POST per event"),
            Case(self.gateway, _BATCHED, "Gatehouse, cloudevents-batch"),
        ]
        if concurrency:
            cases.append(
                Case(self.gateway, _WIDE, f"Gatehouse, one POST per event, concurrency {concurrency}")
            )
        if self.fastapi:
            cases.append(Case(self.fastapi, SENT, "FastAPI, SQLite, httpx"))
        if self.node:
            cases.append(Case(self.node, SENT, f"{self.node.name}, fetch, no store"))
        return cases


def start(
    running: contextlib.ExitStack, folder: Path, places: Places, concurrency: int | None = None
) -> Running:
    """Start all servers until the stack closes. All but the destinations run on the measured core."""
    enter = running.enter_context
    destination = enter(bare(places.load))
    clock = enter(bare(places.load, "clock"))
    url = _url(destination)
    more = _destinations(url, _url(clock), concurrency)
    on = places.one
    others = fastapi(folder / "fastapi", on, url), node(on, url)
    return Running(
        destination,
        clock,
        enter(bare(on, "handler")),
        enter(bare(on)),
        enter(bare(on, "proxy", url)),
        enter(gateway("Gatehouse", folder / "gatehouse", on, destination=destination.port, more=more)),
        *(enter(other) if other else None for other in others),
    )


def _destinations(url: str, clock: str, concurrency: int | None) -> Destinations:
    found: dict[str, dict[str, object]] = {
        "batched": {"url": url, "format": "cloudevents-batch"},
        "timed": {"url": clock},
    }
    if concurrency:
        found["wide"] = {"url": url, "concurrency": concurrency}
    return found


def _url(of: Contestant) -> str:
    return f"http://127.0.0.1:{of.port}/events"


def sections(running: Running, found: Rounds, concurrency: int | None = None) -> list[Section]:
    """Return the two tables. A contestant that is not installed has a row that says so."""
    missing = [] if running.fastapi else ["FastAPI is not installed"]
    ingest = _section("Ingest", running.ingest(), found, accepted, "accepted/s", missing)
    if not running.node:
        missing.append("Node is not installed")
    through = running.end_to_end(concurrency)
    return [ingest, _section("End to end", through, found, delivered, "delivered/s", missing)]


def _section(
    title: str,
    cases: Sequence[Case],
    found: Rounds,
    figure: Callable[[Stretch], float],
    unit: str,
    missing: Sequence[str],
) -> Section:
    against = [case for case in cases[:2] if case.contestant.operator_port is None]
    columns = ("", *_units(unit), *(f"ratio to {case.name}" for case in against), "goal", *_COLUMNS)
    rows = [_row(case, found, against, figure, len(_units(unit))) for case in cases]
    rows += [(name, *[""] * (len(columns) - 1)) for name in missing]
    return Section(title, "", Table(columns, rows))


def _units(unit: str) -> list[str]:
    return [unit] if unit == "accepted/s" else ["accepted/s", unit]


def _row(
    case: Case, found: Rounds, against: Sequence[Case], figure: Callable[[Stretch], float], units: int
) -> tuple[str, ...]:
    middle, per_round = median(found[case]), [ratios(found[case], found[other], figure) for other in against]
    medians = [statistics.median(each) for each in per_round]
    shown = ["1" if case == against[place] else spread(each) for place, each in enumerate(per_round)]
    return (
        case.name,
        *[f"{value:,.0f}" for value in (middle.accepted, middle.delivered)[:units]],
        *shown,
        goal(medians[0], _GOALS[case.path]) if case.contestant.operator_port and case.path in _GOALS else "",
        f"{middle.p50:.1f}",
        f"{middle.p99:.1f}",
        f"{middle.refused:,.0f}",
        f"{middle.gateway_cpu:.0f}",
    )
