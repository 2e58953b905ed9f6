"""How fast the screens of the operator page come from a store of a million events, and what they cost.

    PYTHONPATH=tests python -m bench.page --events 1000000

A gateway on SQLite serves a store with dead letters, a paused destination and refused requests. `screens`
loads every screen: first after a start, then while events arrive at an ordinary rate, and then alone for its
processor time. `ingest` compares full load with and without viewers, by turns. `startup` compares gateways
with and without the page, by turns. A slow result is not a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench import machine, page_files, page_startup
from bench.contestants import Contestant, bare, pinned
from bench.flat_servers import Server, ask, serving
from bench.load import Load, Stretch
from bench.page_screens import Address, Answer, Browser, addresses
from bench.page_traffic import CONFIG, RATE, arriving, refuse
from bench.report import percentile
from bench.rounds import STORED, ratios

_GOAL_MS: Final = 100.0
_LEAST_RATIO: Final = 0.97
_VIEWERS: Final = 10
#: Seconds in which a viewer loads one screen.
_PACE: Final = 3.0
#: Answers of each screen for its processor time.
_ALONE: Final = 10
_ERRORS: Final = 400


class Place(NamedTuple):
    """Where everything is."""

    folder: Path
    places: machine.Places
    destination: Contestant

    def serving(self) -> contextlib.AbstractContextManager[Server]:
        """Start a gateway on the store."""
        return serving("page", self.folder, self.places.one, self.destination.port, settings=CONFIG)


class Cold(NamedTuple):
    """The first answer of a gateway: milliseconds until its first byte, and processor time (ms)."""

    first: float
    cpu: float


def screens(place: Place, times: int, firsts: int) -> None:
    """Print how long each screen takes: after a start, while events arrive, and alone."""
    with place.serving() as server:
        refuse(server.port)
        found, unknown = addresses(server.operator_port)
        warm: dict[Address, list[Answer]] = {}
        for some in (
            [each for each in found if each.is_cheap],
            [each for each in found if not each.is_cheap],
        ):
            with arriving(server.port, place.folder, place.places.load) as arrived:
                warm |= _warm(server.operator_port, some, times)
            name = "cheap screens" if some[0].is_cheap else "screens that count"
            print(f"  {RATE} events per second during {name}: {arrived}", flush=True)
        alone = {each: _alone(server, each) for each in found}
    cold = _cold(place, found, firsts)
    print(f"{'':60} {'first after a start':>19} {'while events arrive':>27} {'alone':>9}")
    print(f"{'first byte, ms':60} {'':>9} {'CPU':>9}    min  median    p95    max       CPU")
    for each in found:
        first = sorted(answer.first for answer in warm[each])
        figures = (first[0], statistics.median(first), percentile(first, 0.95), first[-1])
        after_start = f"{cold[each].first:9.0f} {cold[each].cpu:9.0f}" if each in cold else " " * 19
        statuses = {answer.status for answer in warm[each] if answer.status >= _ERRORS}
        print(
            f"{each.title:60} {after_start} "
            + " ".join(f"{figure:6.1f}" for figure in figures)
            + f"   {alone[each]:7.1f}  {_verdict(each, figures[1], statuses)}",
            flush=True,
        )
    for path in unknown:
        print(f"{path:60} not measured: the store has nothing to show there")


def _verdict(address: Address, median: float, statuses: set[int]) -> str:
    if statuses:
        return f"answers {sorted(statuses)}"
    if not address.is_cheap:
        return "counts, no goal"
    return "✓" if median <= _GOAL_MS else "✗"


def _warm(port: int, found: list[Address], times: int) -> dict[Address, list[Answer]]:
    warm: dict[Address, list[Answer]] = {each: [] for each in found}
    with contextlib.closing(Browser(port)) as browser:
        for each in found:
            browser.load(each)
        for _ in range(times):
            for each in found:
                warm[each].append(browser.load(each))
    return warm


def _alone(server: Server, address: Address) -> float:
    with contextlib.closing(Browser(server.operator_port)) as browser:
        before = machine.precise_cpu_seconds(server.process)
        for _ in range(_ALONE):
            browser.load(address)
        return (machine.precise_cpu_seconds(server.process) - before) / _ALONE * 1000


def _cold(place: Place, found: list[Address], firsts: int) -> dict[Address, Cold]:
    """Load the first address of each route as the first screen of some gateways. Returns the medians."""
    addresses = {each.route: each for each in reversed(found)}.values()
    loaded: dict[Address, list[Cold]] = {each: [] for each in addresses}
    for _ in range(firsts):
        for address, each in loaded.items():
            each.append(_load_first(place, address))
    medians = {address: zip(*each, strict=True) for address, each in loaded.items() if each}
    return {address: Cold(*map(statistics.median, columns)) for address, columns in medians.items()}


def _load_first(place: Place, address: Address) -> Cold:
    with place.serving() as server, contextlib.closing(Browser(server.operator_port)) as browser:
        if address.route.startswith("/refused"):
            refuse(server.port)
            kept = json.loads(ask(server.operator_port, "/api/v1/rejected?limit=1"))["rejected"]
            address = address._replace(target=address.route.replace("{id}", kept[0]["id"]))
        before = machine.precise_cpu_seconds(server.process)
        answer = browser.load(address)
        used = machine.precise_cpu_seconds(server.process) - before
        return Cold(answer.first, used * 1000)


@contextlib.contextmanager
def viewing(of: Contestant, file: Path, cores: set[int], shown: list[float]) -> Iterator[None]:
    """Let people look at the page until the block ends. Adds the milliseconds of each screen to `shown`."""
    module = [sys.executable, "-m", "bench.page_viewers"]
    command = pinned([*module, str(of.operator_port), str(_VIEWERS), str(_PACE), str(file)], cores)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            # Each of them has loaded a first screen.
            shown += [float(process.stdout.readline()) for _ in range(_VIEWERS)]
            yield
        finally:
            process.kill()
            shown += map(float, process.stdout.read().split())


def ingest(place: Place, rounds: int, seconds: float) -> None:
    """Print how much viewers slow ingest at full load."""
    found: dict[bool, list[Stretch]] = {True: [], False: []}
    shown: list[float] = []
    load = Load(place.folder, place.places.load, None, place.destination.process)
    file = place.folder / "addresses"
    with place.serving() as server:
        of = Contestant(server.name, server.process, server.port, server.operator_port)
        refuse(server.port)
        looked_at, _ = addresses(server.operator_port)
        file.write_text("\n".join(_visited(looked_at)))
        load.run(of, STORED, 2.0)
        for turn in range(rounds):
            for has_viewers in (True, False) if turn % 2 else (False, True):
                around = viewing(of, file, place.places.load, shown) if has_viewers else None
                with around or contextlib.nullcontext():
                    stretch = load.run(of, STORED, seconds)
                found[has_viewers].append(stretch)
                print(
                    f"  round {turn + 1}: {_VIEWERS if has_viewers else 0:2} viewers, "
                    f"{stretch.accepted:6,.0f} accepted/s, {stretch.gateway_cpu:4.0f} µs per event, "
                    f"others {stretch.others:.0%}",
                    flush=True,
                )
    print(
        f"\n{_VIEWERS} viewers, {len(shown)} screens: first byte median {statistics.median(shown):.0f} ms, "
        f"p95 {percentile(shown, 0.95):.0f} ms, max {max(shown):.0f} ms"
    )
    _compare("accepted per second", found, lambda one: one.accepted)
    _compare("events per second of processor time", found, lambda one: 1e6 / one.gateway_cpu)


def _compare(name: str, found: Mapping[bool, list[Stretch]], figure: Callable[[Stretch], float]) -> None:
    each = ratios(found[True], found[False], figure)
    median = statistics.median(each)
    best = max(map(figure, found[True])) / max(map(figure, found[False]))
    is_met = "✓" if median >= _LEAST_RATIO else "✗"
    print(
        f"  {name}: ratio {median:.3f} {is_met} ({min(each):.3f} to {max(each):.3f}; of the best turns "
        f"{best:.3f}); goal: at least {_LEAST_RATIO}"
    )


def _visited(found: list[Address]) -> list[str]:
    """Return the screens that people look at by themselves: no files, no streams, no counts, no search."""
    return [
        each.target
        for each in found
        if "?" not in each.target and each.is_cheap and not each.is_endless and "." not in each.route
    ]


def main() -> None:
    """Parse the arguments, fill the store, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20, help="how often each screen is loaded")
    parser.add_argument("--firsts", type=int, default=5, help="how often each is the first screen")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--parts", nargs="+", default=["screens", "ingest", "startup"])
    parser.add_argument("--folder", type=Path, help="where the store is kept for the next run")
    options = parser.parse_args()
    places = machine.places()
    print(f"{machine.describe()}")
    with contextlib.ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-page-")))
        folder.mkdir(exist_ok=True)
        destination = stack.enter_context(bare(places.load))
        place = Place(folder, places, destination)
        parts = {
            "screens": partial(screens, place, options.times, options.firsts),
            "ingest": partial(ingest, place, options.rounds, options.seconds),
            "startup": partial(page_startup.compare, places.one, options.starts),
        }
        if {"screens", "ingest"} & set(options.parts) and not (folder / "gatehouse.db").exists():
            page_files.fill(folder / "gatehouse.db", options.events)
        for name in options.parts:
            parts[name]()
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
