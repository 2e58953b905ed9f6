"""Compares the gateway with servers that do less: `make bench`. docs/benchmarks.md explains it.

`--quick` takes about a minute and leaves out latency and overload. `--write FILE` replaces a page with the
figures of this run. Without it, nothing is written.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench import idle, latency, machine, overload, speed, startup
from bench.load import Load
from bench.report import Section, page
from bench.rounds import Rounds, measure
from gatehouse import __version__

_FILES = 16_384


def main() -> None:
    """Run the benchmark, print the tables, and write the page if `--write` is given."""
    options, began = _parse(), time.monotonic()
    # Must run before this process pins itself to one core, because it reads the available cores.
    places = machine.places()
    _prepare(places)
    described = machine.describe()
    print(described)
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, contextlib.ExitStack() as stack:
        sections, others = _run(options, places, Path(scratch), stack)
    for section in sections:
        print(f"\n{section.markdown()}")
    facts = _facts(options, described, others)
    print("\n" + "\n".join(f"{name}: {text}" for name, text in facts.items()))
    if options.write:
        old = options.write.read_text() if options.write.exists() else ""
        options.write.write_text(page(sections, facts, old))
    print(f"{time.monotonic() - began:.0f} s in total")


def _run(
    options: argparse.Namespace, places: machine.Places, folder: Path, running: contextlib.ExitStack
) -> tuple[list[Section], float]:
    """Return the tables, and the share of the machine that other programs used."""
    sections = [startup.measure(places.one, print, options.starts), idle.measure(places.one, print)]
    servers = speed.start(running, folder, places, options.concurrency)
    load = Load(folder, places.load, None, servers.destination.process)
    cases = [*servers.ingest(), *servers.end_to_end(options.concurrency)]
    turns = {"rounds": options.rounds, "seconds": options.seconds, "warm_up": options.warm_up}
    found = measure(load, cases, **turns, say=print)
    if not options.quick:
        sections.insert(0, latency.measure(servers, folder, print))
        sections.insert(1, overload.measure(load, servers.gateway, print))
    return [*speed.sections(servers, found, options.concurrency), *sections], _others(found)


def _others(found: Rounds) -> float:
    return statistics.median(stretch.others for stretches in found.values() for stretch in stretches)


def _prepare(places: machine.Places) -> None:
    """Move this process off the measured core, and raise the file limit for the connections of wrk."""
    os.sched_setaffinity(0, places.load)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _facts(options: argparse.Namespace, described: str, others: float) -> Mapping[str, str]:
    build = ", compiled" if machine.IS_COMPILED else ""
    return {
        "Machine": f"{described}; other programs used {others:.0%} of it",
        "Gatehouse": f"{__version__}{build}, with a SQLite store next to its config",
        "Date": dt.datetime.now(dt.UTC).date().isoformat(),
        "Rounds": f"{options.rounds}, with turns of {options.seconds:g} s",
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes; whole seconds")
    parser.add_argument(
        "--concurrency", type=int, help="also deliver to a destination with this `concurrency`"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of 2 s turns, without latency and overload"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the page to replace, such as docs/benchmarks.md"
    )
    options = parser.parse_args()
    options.starts, options.warm_up = (3, 1.0) if options.quick else (7, 2.0)
    if options.quick and options.write:
        parser.error("--quick leaves out figures that the page must show")
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
    return options


if __name__ == "__main__":
    main()
