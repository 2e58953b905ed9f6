"""Ingest and end to end: runs all contestants by turns, and builds the two tables."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.contestants import Contestant, Destinations, bare, fastapi, gateway, node, reference
from bench.load import Stretch
from bench.machine import Places
from bench.report import Section, Table, goal, spread
from bench.rounds import SENT, STORED, Case, Rounds, accepted, delivered, median, ratios

_BATCHED, _WIDE = "/webhooks/batched", "/webhooks/wide"
TIMED = "/webhooks/timed"
GATEHOUSE = "Gatehouse"
#: The goals for the ratios of the gateway's figures to those of the bare servers, by path.
_GOALS = {STORED: 0.50, SENT: 0.80, _BATCHED: 1.5}
_COMPILED_GOALS = {STORED: 0.75, SENT: 0.65}
_COLUMNS = ("p50 ms", "p99 ms", "503", "CPU")


class Running(NamedTuple):
    """The servers of one run."""

    destination: Contestant
    clock: Contestant
    handler: Contestant
    low_level: Contestant
    proxy: Contestant
    gateway: Contestant
    reference: Contestant | None
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
            *self.compiled(STORED),
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
        cases += self.compiled(SENT)
        if self.fastapi:
            cases.append(Case(self.fastapi, SENT, "FastAPI, SQLite, httpx"))
        if self.node:
            cases.append(Case(self.node, SENT, f"{self.node.name}, fetch, no store"))
        return cases

    def compiled(self, path: str) -> list[Case]:
        """Return the case of the compiled reference, if it was built."""
        return [Case(self.reference, path, self.reference.name)] if self.reference else []


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
    others = reference(folder / "reference", on, url), fastapi(folder / "fastapi", on, url), node(on, url)
    return Running(
        destination,
        clock,
        enter(bare(on, "handler")),
        enter(bare(on)),
        enter(bare(on, "proxy", url)),
        enter(gateway(GATEHOUSE, folder / "gatehouse", on, destination=destination.port, more=more)),
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
    missing = [] if running.reference else ["the compiled reference was not built"]
    missing += [] if running.fastapi else ["FastAPI is not installed"]
    without_node = [] if running.node else ["Node is not installed"]
    ingest, through = running.ingest(), running.end_to_end(concurrency)
    against = _against(ingest[:2], running.compiled(STORED))
    against_through = _against(through[:1], running.compiled(SENT))
    return [
        _section("Ingest", ingest, found, accepted, against, missing),
        _section("End to end", through, found, delivered, against_through, missing + without_node),
    ]


#: The cases that the others are compared with, and the goals of the gateway for these ratios, by path.
_Against = Sequence[tuple[Case, Mapping[str, float]]]


def _against(bare: Sequence[Case], compiled: Sequence[Case]) -> _Against:
    first, *others = bare
    return [
        (first, _GOALS),
        *((each, {}) for each in others),
        *((each, _COMPILED_GOALS) for each in compiled),
    ]


def _section(
    title: str,
    cases: Sequence[Case],
    found: Rounds,
    figure: Callable[[Stretch], float],
    against: _Against,
    missing: Sequence[str],
) -> Section:
    columns = ["", "accepted/s", *(["delivered/s"] if figure is delivered else [])]
    for case, goals in against:
        columns += [f"ratio to {case.name}", *(["goal"] if goals else [])]
    columns += _COLUMNS
    rows = [_row(case, found, figure, against) for case in cases]
    rows += [(name, *[""] * (len(columns) - 1)) for name in missing]
    return Section(title, "", Table(columns, rows))


def _row(case: Case, found: Rounds, figure: Callable[[Stretch], float], against: _Against) -> tuple[str, ...]:
    middle = median(found[case])
    cells = [case.name, f"{middle.accepted:,.0f}"]
    if figure is delivered:
        cells.append(f"{middle.delivered:,.0f}")
    for other, goals in against:
        per_round = ratios(found[case], found[other], figure)
        cells.append("1" if case == other else spread(per_round))
        if goals:
            is_ours = case.contestant.name == GATEHOUSE and case.path in goals
            cells.append(goal(statistics.median(per_round), goals[case.path]) if is_ours else "")
    return (
        *cells,
        f"{middle.p50:.1f}",
        f"{middle.p99:.1f}",
        f"{middle.refused:,.0f}",
        f"{middle.gateway_cpu:.0f}",
    )
