"""`make crash`: executes all runs at full length and prints a table of results.

Exits with 1 on a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from crash import runs
from crash.checker import check, refused_but_stored
from crash.power_cut import power_cut_with_control
from crash.power_loss import power_loss_with_control
from crash.rig import Rig
from crash.runs import Findings
from crash.sender import Sender
from crash.soak import soak
from crash.under_fire import replicas
from gatehouse.config.quantities import parse_duration

#: The maximum number of violations that are printed per invariant.
_SHOWN = 10
_PARTS = (
    *("kills", "failpoints", "migration", "sigterm", "backups", "power-cut", "power-loss", "replicas"),
    "soak",
)

console = Console(highlight=False)


class Progress:
    """Prints the progress of a run every few seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, rig: Rig, text: str) -> None:
        self.of(rig.sender, text)

    def of(self, sender: Sender, text: str) -> None:
        """Print the progress of a sender."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 5.0
            console.print(f"  {text:<28} {sender.sent:>7,} sent  {sender.acknowledged:>7,} acknowledged")


def show(title: str, findings: Findings, seconds: float) -> bool:
    """Print the results of a run. Return whether all invariants held."""
    evidence = findings.evidence
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in _figures(findings, seconds).items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)
    broken = {name: found for name, found in check(evidence, findings.invariants).items() if found}
    if findings.faults:
        broken["besides"] = findings.faults
    for name, found in broken.items():
        console.print(f"[red]{name}[/]: {len(found)} violations")
        for text in found[:_SHOWN]:
            console.print(f"    {text}", markup=False)
    console.print("[red]violated[/]\n" if broken else "[green]I1 to I9 hold[/]\n")
    return not broken


def _figures(findings: Findings, seconds: float) -> dict[str, object]:
    evidence = findings.evidence
    return {
        "kills": evidence.kills,
        "events sent": len(evidence.sent),
        "acknowledged": len(evidence.acknowledged),
        "requests refused with 503": sum(answer.status == 503 for answer in evidence.answers),
        "requests without an answer": sum(answer.status == 0 for answer in evidence.answers),
        "stored": len(evidence.stored.rows),
        "received (attempts)": len(evidence.receptions),
        "delivered": len(evidence.delivered),
        "duplicates, all recognizable": evidence.duplicates,
        "refused but stored": len(refused_but_stored(evidence)),
        "lost": len(evidence.lost),
        **findings.facts,
        "time": f"{seconds:.0f} s",
    }


async def run(title: str, folder: Path, work: Callable[[Path], Awaitable[Findings]]) -> bool:
    """Run one part in its own folder."""
    console.print(f"[bold]{title}[/]")
    (place := folder / title.partition(" ")[0]).mkdir()
    started = time.monotonic()
    try:
        findings = await work(place)
    except AssertionError as error:
        console.print(f"[red]the run was aborted[/]: {error}")
        return False
    return show(title, findings, time.monotonic() - started)


async def main(options: argparse.Namespace, folder: Path) -> bool:
    """Run the selected parts. Return whether all invariants held."""
    kills, seed, say = options.kills, options.seed, Progress()
    some = max(1, kills // 10)
    parts: dict[str, Callable[[Path], Awaitable[Findings]]] = {
        "kills": lambda place: runs.kill(
            place, kills=kills, acknowledged=options.acks, seed=seed, progress=say
        ),
        "failpoints": lambda place: runs.crash_at_failpoints(place, times=some, seed=seed, progress=say),
        "migration": lambda place: runs.migrate(place, times=some, seed=seed, progress=say),
        "sigterm": lambda place: runs.terminate(place, times=max(1, kills // 4), seed=seed, progress=say),
        "backups": lambda place: runs.back_up(place, times=max(1, kills // 4), seed=seed, progress=say),
        "replicas": lambda place: replicas(place, kills=min(kills, 60), seed=seed, progress=say.of),
        "power-cut": lambda place: power_cut_with_control(place, requests=1000, seed=seed, progress=say),
        "power-loss": lambda place: power_loss_with_control(
            place, cuts=max(1, kills // 4), acknowledged=options.acks // 5, seed=seed, progress=say
        ),
        "soak": lambda place: soak(place, seconds=options.soak, seed=seed, progress=say),
    }
    held = [await run(part, folder, parts[part]) for part in options.parts]
    return all(held)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--acks", type=int, default=100_000)
    parser.add_argument("--seed", default=str(int(time.time())), help="selects the moments of the kills")
    parser.add_argument(
        "--soak", type=parse_duration, default=3600.0, help="the duration of a soak, such as 4h or 60m"
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS[:-1])
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    scratch = Path(tempfile.mkdtemp(prefix="gatehouse-crash-"))
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}; seed {given.seed}; in {scratch}\n"
    )
    if asyncio.run(main(given, scratch)):
        shutil.rmtree(scratch)
        sys.exit(0)
    console.print(f"the files of the run are in {scratch}")
    sys.exit(1)
