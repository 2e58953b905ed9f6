"""How long a search takes in a store of a million events, and what it costs ingest.

    PYTHONPATH=tests python -m bench.search --events 1000000

A gateway on SQLite and one on PostgreSQL serve a store full of events of 1 KB. First the program asks for the
first page of each filter, and then follows the pages to the end. Then events arrive at an ordinary rate, by
turns with and without a search for a text that no body contains. A slow result is not a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from bench import machine, signed
from bench.contestants import Contestant, bare, gateway
from bench.flat_servers import serving
from bench.report import percentile
from bench.rounds import STORED
from bench.search_files import FREQUENT, NOWHERE, RARE, fill_postgres, fill_sqlite
from postgres_server import PostgresServer

_RATE = 200
_WITHIN = 60.0
_TIMES = 5
_OK = 200
_SERVER = {"shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum_naptime": "5s"}


class First(NamedTuple):
    """The first page of a search, and the way to the last one."""

    first_ms: float
    #: Items on all pages up to the 50th item or the end.
    items: int
    pages: int
    seconds: float


def page(
    of: Contestant, connection: http.client.HTTPConnection, filters: dict[str, str]
) -> dict[str, object]:
    """Ask for a page of events."""
    connection.request("GET", f"/api/v1/events?{urlencode(filters)}")
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == _OK, (of.name, answer)
    return dict(answer)


def search(of: Contestant, filters: dict[str, str]) -> First:
    """Search up to the 50th event, or the end."""
    assert of.operator_port is not None
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", of.operator_port)) as connection:
        first = []
        for _ in range(_TIMES):
            began = time.monotonic()
            answer = page(of, connection, filters)
            first.append((time.monotonic() - began) * 1000)
        began, items, pages = time.monotonic(), 0, 0
        cursor: object = ""
        while cursor is not None and items < 50 and time.monotonic() - began < _WITHIN:
            answer = page(of, connection, filters | ({"cursor": str(cursor)} if cursor else {}))
            cursor, pages = answer["cursor"], pages + 1
            items += len(answer["events"])  # type: ignore[arg-type]
        return First(statistics.median(first), items, pages, time.monotonic() - began)


@contextlib.contextmanager
def searching(of: Contestant) -> Iterator[list[int]]:
    """Search for a text that no body contains, over and over, until the block ends. Counts the pages."""
    ended = threading.Event()
    pages = [0]

    def run() -> None:
        assert of.operator_port is not None
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", of.operator_port)) as connection:
            cursor: object = None
            while not ended.is_set():
                filters = {"contains": "no body contains this"} | ({"cursor": str(cursor)} if cursor else {})
                cursor = page(of, connection, filters)["cursor"]
                pages[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield pages
    finally:
        ended.set()
        thread.join()


def answers(of: Contestant, file: Path, events: str, seconds: int) -> list[float]:
    """Send events at an ordinary rate. Returns the milliseconds from the planned moments to the answers."""
    signed.write(file, STORED, events, _RATE * seconds, 1000)
    command = [sys.executable, "-m", "bench.steady", str(of.port), str(file), str(_RATE)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    planned, _, answered, status = range(4)
    assert all(each[status] == _OK for each in found), "not all were accepted"
    return [(each[answered] - each[planned]) * 1000 for each in found]


def compare(of: Contestant, folder: Path, options: argparse.Namespace) -> None:
    """Print the 99th percentile of answers with and without a search, in turns."""
    without: list[list[float]] = []
    during: list[list[float]] = []
    pages = 0
    for turn in range(options.rounds):
        for is_searching in (False, True) if turn % 2 else (True, False):
            name = f"{of.name[:2]}{turn}{int(is_searching)}"
            if not is_searching:
                without.append(answers(of, folder / "steady", name, options.seconds))
                continue
            with searching(of) as counted:
                during.append(answers(of, folder / "steady", name, options.seconds))
            pages += counted[0]
    ratios = [percentile(b, 0.99) / percentile(a, 0.99) for a, b in zip(without, during, strict=True)]
    all_without, all_during = list(chain(*without)), list(chain(*during))
    for share in (0.5, 0.99):
        a, b = percentile(all_without, share), percentile(all_during, share)
        print(f"  p{share * 100:.0f} of answers: {a:.1f} ms without, {b:.1f} ms during a search: {b / a:.2f}")
    print(
        f"  ratios of p99 by turn: median {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}); {pages} pages meanwhile"
    )


def measure(of: Contestant, folder: Path, options: argparse.Namespace) -> None:
    """Print everything about one store."""
    print(f"\n{of.name}")
    print("  filter                                first page      to the end or 50 events")
    for kind, queries in (("frequent", FREQUENT), ("rare", RARE), ("nowhere", NOWHERE)):
        for filters in queries:
            found = search(of, filters)
            text = f"{kind} {' '.join(filters.values())[:24]} ({', '.join(filters)})"
            print(
                f"  {text:50} {found.first_ms:6.1f} ms   {found.items:3} items in {found.pages:3} pages, "
                f"{found.seconds:6.2f} s",
                flush=True,
            )
    compare(of, folder, options)


def main() -> None:
    """Parse the arguments, fill the stores, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgres"])
    options = parser.parse_args()
    places = machine.places()
    print(f"{machine.describe()}; load {os.getloadavg()[0]:.1f}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-search-")))
        destination = stack.enter_context(bare(places.load)).port
        if "sqlite" in options.stores:
            (folder / "sqlite").mkdir()
            fill_sqlite(folder / "sqlite" / "gatehouse.db", options.events)
            with serving("SQLite", folder / "sqlite", places.one, destination) as server:
                of = Contestant(server.name, server.process, server.port, server.operator_port)
                measure(of, folder, options)
        if "postgres" in options.stores:
            postgres = stack.enter_context(PostgresServer())
            for name, value in _SERVER.items():
                postgres.sql(f"ALTER SYSTEM SET {name} = '{value}'")
            postgres.stop()
            postgres.start()
            database = postgres.create_database()
            asyncio.run(fill_postgres(database, options.events))
            running = gateway(
                "PostgreSQL", folder / "postgres", places.one, destination=destination, database=database
            )
            with running as of:
                measure(of, folder, options)


if __name__ == "__main__":
    main()
