"""Measures what a destination's `concurrency` changes: deliveries per second, lag and refusals.

    PYTHONPATH=tests .venv/bin/python -m bench.concurrency

One gateway delivers to destinations of several kinds (see `limited.py`), each with several settings, which
take turns. In a turn, events arrive as fast as the gateway accepts them, and then the gateway delivers the
rest.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.contestants import Contestant, gateway, program
from bench.limited import Figures
from bench.load import Load
from bench.report import percentile

console = Console(highlight=False, width=150)

#: The kinds of destinations, by what the table calls them.
KINDS: Mapping[str, str] = {
    "replies at once": "fast",
    "5 ms per reply": "takes/5",
    "50 ms per reply": "takes/50",
    "5 ms, 8 at a time": "queues/8/5",
    "5 ms, 429 above 20": "refuses/20/5",
}
SETTINGS: Sequence[object] = (16, 32, 64, "auto")


class Turn(NamedTuple):
    """The figures of one turn."""

    delivered: float
    #: CPU of the gateway per event (µs).
    cpu: float
    #: Milliseconds from the acceptance of an event until its attempt arrived.
    p50: float
    p99: float
    #: The share of the attempts that were refused.
    refused: float
    #: The most requests in progress at the destination.
    most: float


class Case(NamedTuple):
    """A kind of destination with a setting."""

    kind: str
    setting: object

    @property
    def name(self) -> str:
        return f"{self.kind.replace('/', '-')}-{self.setting}"

    @property
    def path(self) -> str:
        return f"/{self.setting}/{self.kind}"


def turn(load: Load, on: Contestant, app: Contestant, case: Case, seconds: float) -> Turn:
    """Run one turn."""
    _figures(app, case)
    stretch = load.run(on, f"/webhooks/{case.name}", seconds)
    found = _figures(app, case)
    lags = [one * 1000 for one in found.lags]
    attempts = found.ok + found.refused
    return Turn(
        stretch.delivered,
        stretch.gateway_cpu,
        percentile(lags, 0.5),
        percentile(lags, 0.99),
        found.refused / attempts,
        found.most,
    )


def _figures(app: Contestant, case: Case) -> Figures:
    connection = http.client.HTTPConnection("127.0.0.1", app.port)
    connection.request("GET", case.path)
    found = Figures()
    vars(found).update(json.loads(connection.getresponse().read()))
    connection.close()
    return found


def run(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> None:
    """Start all, measure, and print."""
    places, enter = machine.places(), running.enter_context
    console.print(machine.describe())
    kinds = {
        name: kind for name, kind in KINDS.items() if not options.kinds or kind.split("/")[0] in options.kinds
    }
    settings = options.settings or SETTINGS
    app = enter(program("app", [sys.executable, "-m", "bench.limited"], places.load))
    cases = [Case(kind, setting) for kind in kinds.values() for setting in settings]
    more = {
        case.name: {"url": f"http://127.0.0.1:{app.port}{case.path}", "concurrency": case.setting}
        for case in cases
    }
    on = enter(gateway("Gatehouse", folder / "gatehouse", places.one, destination=app.port, more=more))
    load = Load(folder, places.load, None, app.process)
    found: dict[Case, list[Turn]] = {case: [] for case in cases}
    turn(load, on, app, cases[0], 1.0)
    for number in range(options.rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            found[case].append(turn(load, on, app, case, options.seconds))
            console.print(f"  round {number + 1}  {case.name:24} {found[case][-1]}")
    for name, kind in kinds.items():
        console.print(_table(name, {case: turns for case, turns in found.items() if case.kind == kind}))


def _table(name: str, found: Mapping[Case, Sequence[Turn]]) -> Table:
    shown = Table(title=name, title_justify="left")
    for column in (
        "concurrency",
        "delivered/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "refused",
        "in progress",
        "CPU µs",
    ):
        shown.add_column(column, justify="right")
    first = next(iter(found.values()))
    for case, turns in found.items():
        ratios = [mine.delivered / theirs.delivered for mine, theirs in zip(turns, first, strict=True)]
        middle = Turn(*map(statistics.median, zip(*turns, strict=True)))
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        cells: list[str] = [str(case.setting), f"{middle.delivered:,.0f}", ratio]
        cells += [f"{middle.p50:,.1f}", f"{middle.p99:,.1f}", f"{middle.refused:.2%}"]
        shown.add_row(*cells, f"{middle.most:.0f}", f"{middle.cpu:.0f}")
    return shown


def _setting(text: str) -> object:
    return int(text) if text.isdigit() else text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long events arrive in a turn; whole seconds"
    )
    parser.add_argument("--kinds", nargs="*", help="fast, takes, queues, refuses")
    parser.add_argument("--settings", nargs="*", type=_setting, help="values of `concurrency`")
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, contextlib.ExitStack() as stack:
        run(parser.parse_args(), Path(scratch), stack)
