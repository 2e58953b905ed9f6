"""Measures how much readers of the stream slow ingest: events per second without readers, with one, and with
many.

    PYTHONPATH=tests python -m bench.stream --readers 0 1 200

There is one gateway on SQLite per number of readers, and they take turns. The readers request
everything and read as fast as they can. They run on the cores of the load, not on the gateway's core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import machine
from bench.contestants import Contestant, bare, gateway, pinned
from bench.load import Load
from bench.rounds import SENT, STORED, Case, measure

_WITHIN = 30.0


async def read(port: int, number: int) -> None:
    """Read the stream with this number of clients, and discard the data."""

    async def one() -> None:
        read, write = await asyncio.open_connection("127.0.0.1", port)
        write.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while await read.read(256 * 1024):
            pass

    await asyncio.gather(*(one() for _ in range(number)))


@contextlib.contextmanager
def readers(of: Contestant, number: int, cores: set[int]) -> Iterator[None]:
    """Run readers in a separate process."""
    command = [
        sys.executable,
        "-m",
        "bench.stream",
        "--port",
        str(of.operator_port),
        "--readers",
        str(number),
    ]
    with subprocess.Popen(pinned(command, cores)) as process:
        try:
            until = time.monotonic() + _WITHIN
            while of.counted()["gatehouse_stream_readers"] < number:
                assert time.monotonic() < until, "the readers did not connect"
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def run(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> None:
    """Start all gateways, measure, and print."""
    places = machine.places()
    destination = running.enter_context(bare(places.load))
    load = Load(folder, places.load, None, destination.process)
    cases = []
    for number in options.readers:
        name = f"{number} readers"
        started = running.enter_context(
            gateway(name, folder / str(number), places.one, destination=destination.port)
        )
        if number:
            running.enter_context(readers(started, number, places.load))
        cases += [Case(started, SENT if options.sent else STORED, name)]
    found = measure(load, cases, rounds=options.rounds, seconds=options.seconds, say=print)
    first = found[cases[0]]
    print(f"{machine.describe()}; load {os.getloadavg()[0]:.1f}")
    for case, stretches in found.items():
        ratios = [one.accepted / two.accepted for one, two in zip(stretches, first, strict=True)]
        cpu = statistics.median(stretch.gateway_cpu for stretch in stretches)
        accepted = statistics.median(stretch.accepted for stretch in stretches)
        left_out = case.contestant.counted()["gatehouse_stream_left_out_total"]
        print(
            f"{case.name:12} {accepted:8,.0f}/s   {cpu:6.0f} µs per event   "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})   "
            f"left out: {left_out:,}"
        )


def main() -> None:
    """Parse the arguments, and measure or, with `--port`, read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, nargs="+", default=[0, 1, 200])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--sent", action="store_true", help="also deliver the events")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        asyncio.run(read(options.port, options.readers[0]))
        return
    with tempfile.TemporaryDirectory(prefix="gatehouse-stream-") as folder, contextlib.ExitStack() as running:
        run(options, Path(folder), running)


if __name__ == "__main__":
    main()
