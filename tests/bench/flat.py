"""Compares gateways on SQLite stores with much and with little data: `make bench-flat`.

- keys: ingest with millions of dedupe keys, compared with an empty store. The file is in the kernel's cache
  first, and is then dropped from it before each turn.
- purge: ingest while retention removes expired rows, compared with a store where nothing expires.
- pending: memory, time to ready, and the rate of deliveries with a million pending deliveries.

Events have random ids, so new keys are inserted anywhere among the existing ones. 32 connections send them.
Gateways take turns on one core while the others are stopped (SIGSTOP), and ratios compare adjacent turns. The
program prints its figures; a slow result is not a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import flat_files, flat_pending, flat_purge, machine
from bench.flat_files import DAY, Span
from bench.flat_servers import Server, destination, serving
from bench.flat_turns import Load, take_turns, turn_table

_EMPTY = "empty store"
_WARM_UP = 2


def keys(options: argparse.Namespace, folder: Path, places: machine.Places) -> None:
    """Compare stores that contain many keys with an empty one."""
    names = [_EMPTY]
    for number in options.keys:
        names.append(f"{number:,} keys")
        _fill(folder / names[-1], number)
    with contextlib.ExitStack() as running:
        port = running.enter_context(destination(places.load))
        servers = [running.enter_context(serving(name, folder / name, places.one, port)) for name in names]
        load = Load(folder, places.load)
        for server in servers:
            flat_files.warm(server.file)
        take_turns(load, servers, rounds=1, seconds=_WARM_UP)
        found = take_turns(load, servers, rounds=options.rounds, seconds=options.seconds)
        print(turn_table("keys, the file in the kernel's cache", found, _EMPTY))
        found = take_turns(load, servers, rounds=2, seconds=options.seconds, before=_forget)
        print(turn_table("keys, the file dropped from the kernel's cache before each turn", found, _EMPTY))
    for name in names:
        _describe(folder / name / "gatehouse.db", name)


def _fill(folder: Path, number: int) -> None:
    folder.mkdir()
    now = time.time()
    with flat_files.filling(folder / "gatehouse.db") as connection:
        flat_files.add_keys(connection, number, Span(now + DAY, now + 7 * DAY))


def _forget(server: Server) -> None:
    flat_files.drop(server.file)


def _describe(file: Path, name: str) -> None:
    size, tree = file.stat().st_size / 1e6, flat_files.shape(file)
    print(f"{name}: {size:,.0f} MB", end="")
    if tree is not None:
        print(
            f"; tree of the keys: {tree.depth} levels, {tree.inner_pages:,} inner pages"
            f" ({tree.inner_pages * 4096 / 1e6:,.1f} MB), {tree.leaf_pages:,} leaves, {tree.fill:.0%} full",
            end="",
        )
    print(flush=True)


PARTS: Mapping[str, Callable[[argparse.Namespace, Path, machine.Places], None]] = {
    "keys": keys,
    "purge": flat_purge.run,
    "pending": flat_pending.run,
}


def main() -> None:
    """Run the selected parts."""
    options = parse()
    places, started = machine.places(), time.monotonic()
    os.sched_setaffinity(0, places.load)  # fill stores and sign requests on the core of the load generator
    print(machine.describe(), flush=True)
    for part in options.parts:
        with tempfile.TemporaryDirectory(prefix="gatehouse-flat-", dir=options.folder) as scratch:
            PARTS[part](options, Path(scratch), places)
    print(f"{time.monotonic() - started:.0f} s in total")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-flat", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=5, help="how long each turn takes")
    add(
        "--keys",
        type=int,
        nargs="+",
        default=[10_000_000],
        help="the number of keys in the store; several numbers make several stores",
    )
    add("--purge-keys", type=int, default=1_000_000, help="the number of keys that do not expire")
    add(
        "--purge-rows",
        type=int,
        nargs="*",
        default=[400],
        help="rows per step of a purge that has fallen behind",
    )
    add("--pending", type=int, default=1_000_000)
    add(
        "--few",
        type=int,
        nargs="+",
        default=[1_000, 20_000],
        help="numbers of pending deliveries to compare with",
    )
    add("--drain", type=int, default=30, help="the maximum time of the deliveries, in seconds")
    add("--folder", type=Path, help="where to write the files (default: the directory for temporary files)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
