"""Compares a million pending deliveries with a few: time to ready, memory, and the rate of deliveries."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import flat_files, machine
from bench.flat_files import Span
from bench.flat_servers import Server, ask, destination, serving
from bench.flat_turns import table

_HOUR = 3600.0
_EVERY = 0.1
#: The maximum time (seconds) until the gateway makes its first delivery.
_WITHIN = 60.0
_HEAD = (
    "pending",
    "file MB",
    "ready s",
    "ready s, file not cached",
    "resident MB, ready",
    "peak resident MB",
    "delivered/s",
    "ratio to first row",
    "gateway µs",
)


class Drain(NamedTuple):
    """The figures of one run."""

    #: The size of the file (MB).
    size: float
    ready: float
    ready_uncached: float
    resident: float
    peak_resident: float
    #: Deliveries per second at the destination.
    rate: float
    #: Processor time per delivery (µs).
    cpu: float


def run(options: argparse.Namespace, folder: Path, places: machine.Places) -> None:
    """Compare many pending deliveries with few, in ascending and then in descending order."""
    numbers = sorted({*options.few, options.pending})
    found: dict[int, list[Drain]] = {number: [] for number in numbers}
    with destination(places.load) as port:
        for number in (*numbers, *numbers[-2::-1], *numbers[:1]):
            found[number].append(_drain(number, folder / "pending", places, port, options.drain))
            print(f"  {number:,} pending: {found[number][-1].rate:,.0f} delivered/s", flush=True)
    first = _median(found[numbers[0]]).rate
    rows = [_row(number, _median(drains), first) for number, drains in found.items()]
    print(table(f"pending deliveries; the rate is measured over at most {options.drain} s", _HEAD, rows))


def _drain(number: int, folder: Path, places: machine.Places, port: int, seconds: float) -> Drain:
    folder.mkdir()
    file, now = folder / "gatehouse.db", time.time()
    with flat_files.filling(file) as connection:
        flat_files.add_events(connection, number, Span(now - _HOUR, now), pending=True)
        flat_files.pause(connection)
    size = file.stat().st_size / 1e6
    flat_files.drop(file)
    with serving("", folder, places.one, port) as server:
        uncached = server.ready
    flat_files.warm(file)
    with serving("", folder, places.one, port) as server:
        resident = server.resident()
        rate, cpu = _deliver(server, port, number, seconds)
        found = Drain(size, server.ready, uncached, resident, server.peak_resident(), rate, cpu)
    shutil.rmtree(folder)
    return found


def _deliver(server: Server, port: int, number: int, seconds: float) -> tuple[float, float]:
    """Wait until all are delivered or the time is over.

    Return deliveries per second and CPU µs per delivery.
    """
    ask(port, "/", "DELETE")
    used = server.usage()
    ask(server.operator_port, "/api/v1/destinations/app/resume", "POST")
    began = time.monotonic()
    while (counted := json.loads(ask(port, "/")))["count"] < number:
        if counted["count"] and time.monotonic() > began + seconds:
            break
        assert counted["count"] or time.monotonic() < began + _WITHIN, "nothing is delivered"
        time.sleep(_EVERY)
    cpu = (server.usage() - used).cpu
    return (counted["count"] - 1) / counted["seconds"], cpu / counted["count"] * 1e6


def _median(drains: Iterable[Drain]) -> Drain:
    return Drain(*map(statistics.median, zip(*drains, strict=True)))


def _row(number: int, drain: Drain, first: float) -> Sequence[str]:
    times = (f"{drain.ready:.2f}", f"{drain.ready_uncached:.2f}")
    memory = (f"{drain.resident:.0f}", f"{drain.peak_resident:.0f}")
    speed = (f"{drain.rate:,.0f}", f"{drain.rate / first:.2f}", f"{drain.cpu:.0f}")
    return (f"{number:,}", f"{drain.size:,.0f}", *times, *memory, *speed)
