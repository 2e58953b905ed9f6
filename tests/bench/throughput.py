"""Measures events per second for each store, with one and with two workers, next to a bare handler.

`make bench-stores` runs it. All contestants run at the same time and take turns. The table shows the medians,
and ratios to the bare handler in the same round. Each request is a new, signed event of 0.8 KB. There are 32
connections, and each sends its next request when it has received its answer. Events of "stored" have no
route: the answer follows verification, dedupe and the commit. Events of "sent" are also delivered, one POST
per event, while more arrive. A slow result is not a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.contestants import bare, gateway
from bench.load import Load, Stretch
from bench.rounds import SENT, STORED, Case, Rounds, measure, median, ratio
from postgres_server import Database, PostgresServer

__all__ = ["median", "ratio"]

console = Console(highlight=False, width=150)


_COLUMNS: Mapping[str, Callable[[Stretch], str]] = {
    "accepted/s": lambda stretch: f"{stretch.accepted:,.0f}",
    "p50 ms": lambda stretch: f"{stretch.p50:.1f}",
    "p99 ms": lambda stretch: f"{stretch.p99:.1f}",
    "503": lambda stretch: f"{stretch.refused:,}",
    "delivered/s": lambda stretch: f"{stretch.delivered:,.0f}" if stretch.delivered else "",
    "gateway µs": lambda stretch: f"{stretch.gateway_cpu:.0f}",
    "database µs": lambda stretch: f"{stretch.database_cpu:.0f}" if stretch.database_cpu else "",
    "WAL B": lambda stretch: f"{stretch.wal:,.0f}" if stretch.wal else "",
    "connections": lambda stretch: f"{stretch.connections}" if stretch.connections else "",
}


def table(found: Rounds) -> Table:
    """Return the table of medians."""
    reference = next(iter(found.values()))
    shown = Table(title="medians; CPU µs and bytes are per event", title_justify="left")
    shown.add_column("")
    for column in (*_COLUMNS, "ratio"):
        shown.add_column(column, justify="right")
    for case, stretches in found.items():
        middle = median(stretches)
        cells = (write(middle) for write in _COLUMNS.values())
        shown.add_row(case.name, *cells, f"{ratio(stretches, reference):.2f}")
    return shown


def in_database(server: PostgresServer, database: Database) -> str:
    """Return the cost of an event in a database, from the database's statistics."""

    def ask(sql: str) -> float:
        return float(server.sql(sql, database=database.name))

    events = ask("SELECT count(*) FROM events")
    deliveries = ask("SELECT count(*) FROM deliveries")
    rows = events + deliveries + ask("SELECT count(*) FROM dedupe_keys")
    size = ask("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables")
    updates, hot = (
        ask(f"SELECT {column} FROM pg_stat_user_tables WHERE relname = 'deliveries'")  # noqa: S608 - of two names
        for column in ("n_tup_upd", "n_tup_hot_upd")
    )
    commits = ask(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database.name}'")  # noqa: S608
    return (
        f"{events:,.0f} events, {deliveries / events:.2f} deliveries and {rows / events:.2f} rows per event, "
        f"{size / events:,.0f} B on disk per event with indexes; "
        f"{updates / max(1, deliveries):.2f} updates per delivery, {hot / max(1, updates):.0%} of them HOT; "
        f"{events / commits:.1f} events per transaction"
    )


def note(found: Rounds) -> str:
    """Return the remarks about the figures."""
    others = statistics.median(stretch.others for stretches in found.values() for stretch in stretches)
    text = f"{others:.0%} of the machine was used by other programs."
    if (os.cpu_count() or 1) < machine.FEW_CORES:
        text += (
            " The gateway has one core. The database, the load generator and the destination share the other,"
            " and a second worker also runs there. Use the CPU µs per event to estimate the effect of more"
            " cores."
        )
    return text


def run(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> None:
    """Start all contestants, measure, and print."""
    places, started = machine.places(), time.monotonic()
    enter = running.enter_context
    server = enter(PostgresServer())
    machine.pin(server.process, places.database)
    console.print(f"{machine.describe()}; PostgreSQL {server.sql('SHOW server_version')}")
    destination = enter(bare(places.load))
    reference = enter(bare(places.one))
    databases = [server.create_database() for _ in range(2)]
    gateways = contextlib.ExitStack()
    with gateways:
        start = gateways.enter_context
        port = destination.port
        contestants = [
            start(gateway("SQLite", folder / "sqlite", places.one, destination=port)),
            start(gateway("PostgreSQL", folder / "1", places.one, destination=port, database=databases[0])),
            start(
                gateway(
                    "PostgreSQL, 2 workers",
                    folder / "2",
                    places.two,
                    destination=port,
                    database=databases[1],
                    workers=2,
                )
            ),
        ]
        cases = [Case(reference, STORED)]
        cases += [Case(contestant, path) for path in (STORED, SENT) for contestant in contestants]
        load = Load(folder, places.load, server, destination.process)
        found = measure(load, cases, rounds=options.rounds, seconds=options.seconds, say=console.print)
    console.print(table(found))
    one, two = (
        next(stretches for case, stretches in found.items() if case == Case(each, STORED))
        for each in contestants[1:]
    )
    console.print(f"two workers accept {ratio(two, one):.2f} times as much as one")
    for contestant, database in zip(contestants[1:], databases, strict=True):
        console.print(f"{contestant.name}: {in_database(server, database)}")
    console.print(f"{note(found)} load {os.getloadavg()[0]:.1f}, {time.monotonic() - started:.0f} s in total")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-stores", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each turn takes; whole seconds")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s turns")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
    return options


if __name__ == "__main__":
    given = parse()
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch, contextlib.ExitStack() as stack:
        run(given, Path(scratch), stack)
