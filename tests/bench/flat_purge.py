"""Measures how much the purge slows ingest, with many expired rows and with none."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from bench import flat_files, machine
from bench.flat_files import DAY, Span
from bench.flat_servers import destination, serving
from bench.flat_turns import Load, take_turns, turn_table
from gatehouse.store.retention import ROWS_PER_STEP
from gatehouse.store.rows import first_id_at, milliseconds

_NOTHING = "nothing expires"
_KEEP = 7 * DAY
#: Steps per second, from the minimum pause between steps and the duration of a step.
_STEPS = 18
_WARM_UP = 2


class Expired(NamedTuple):
    """The number of expired rows in a store."""

    keys: int
    events: int


def run(options: argparse.Namespace, folder: Path, places: machine.Places) -> None:
    """Compare ingest with and without a purge.

    A purge removes keys first. There are enough expired keys for half of the steps of all turns, and more
    events than the other half removes. Overall, the purge therefore removes about as many keys as events.
    """
    seconds = options.rounds * options.seconds + _WARM_UP
    rows = {_NOTHING: 0}
    for each in (ROWS_PER_STEP, *options.purge_rows):
        rows[f"purge, {each} rows a step"] = each
    for name, each in rows.items():
        _fill(folder / name, options.purge_keys, each * _STEPS * seconds // 2)
    before = {name: _expired(folder / name) for name in rows}
    with contextlib.ExitStack() as running:
        port = running.enter_context(destination(places.load))
        servers = []
        for name, each in rows.items():
            step = str(each or ROWS_PER_STEP)
            servers.append(
                running.enter_context(serving(name, folder / name, places.one, port, PURGE_ROWS=step))
            )
            servers[-1].freeze()  # otherwise it would purge while no requests arrive
        load = Load(folder, places.load)
        warmed = take_turns(load, servers, rounds=1, seconds=_WARM_UP)
        found = take_turns(load, servers, rounds=options.rounds, seconds=options.seconds)
    print(turn_table(f"purge, among {options.purge_keys:,} other keys", found, _NOTHING))
    for name in list(rows)[1:]:
        accepted = options.seconds * sum(turn.accepted for turn in found[name])
        accepted += _WARM_UP * sum(turn.accepted for turn in warmed[name])
        _tell(name, before[name], _expired(folder / name), accepted)


def _fill(folder: Path, others: int, expired: int) -> None:
    folder.mkdir()
    now = time.time()
    with flat_files.filling(folder / "gatehouse.db") as connection:
        flat_files.add_keys(connection, others, Span(now + DAY, now + _KEEP))
        if expired:
            flat_files.add_keys(connection, expired, Span(now - DAY, now))
            flat_files.add_events(connection, 2 * expired, Span(now - _KEEP - DAY, now - _KEEP))


def _expired(folder: Path) -> Expired:
    """Count the expired rows that are still stored."""
    now = time.time()
    with contextlib.closing(sqlite3.connect(folder / "gatehouse.db")) as connection:
        (keys,) = connection.execute(
            "SELECT count(*) FROM dedupe_keys WHERE expires_ms <= ?", (milliseconds(now),)
        ).fetchone()
        (events,) = connection.execute(
            "SELECT count(*) FROM events WHERE id < ?", (first_id_at(now - _KEEP),)
        ).fetchone()
    return Expired(keys, events)


def _tell(name: str, before: Expired, after: Expired, accepted: float) -> None:
    """Print what was removed. A purge that keeps up removes one key and one event per accepted event."""
    keys, events = before.keys - after.keys, before.events - after.events
    ended = "; nothing was left at the end" if not any(after) else ""
    each = f"{keys / accepted:.2f} and {events / accepted:.2f} per accepted event"
    print(f"{name}: {keys:,} keys and {events:,} events removed, {each}{ended}", flush=True)
