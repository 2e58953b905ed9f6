"""Measures an idle gateway with the example config, and the commands that ask it: `make bench-idle`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.contestants import environment, pinned
from bench.report import Section, Table, goal

_EXAMPLE = Path(__file__).parents[2] / "gateway.yaml"
#: Valid as a secret of every source of the example: it has the form that `basic` needs.
_SECRET = "name:a-secret-of-some-length"
_TURNS = 5
_READY_WITHIN = 30.0
#: Seconds after which the memory of a gateway that is ready no longer changes.
_SETTLED = 2.0
_LOOK = 0.01
_MIB = 1024 * 1024
_MEMORY, _COMMAND = 32, 0.2
_COMMANDS = (
    *("status", "sources", "destinations", "rejected", "events", "events 01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    *("dead", "audit", "replay --list", "retry --all --dry-run", "tail"),
    *("pause archive", "resume archive", "reload"),
)
#: Runs until it is ended.
_ENDLESS = "tail"
_TEXT = (
    "The gateway has the example config `gateway.yaml`, SQLite and an empty store. The memory is its\n"
    "anonymous memory (`/proc/PID/smaps_rollup`) two seconds after it was ready. The processor time is that\n"
    "of the whole process of a command. Only `reload` loads the config, because it checks it first."
)


class Idle(NamedTuple):
    """A gateway that serves nobody."""

    process: int
    #: The URL of the operator listener.
    operator: str


def measure(cores: set[int], say: Callable[[str], object], turns: int = _TURNS) -> Section:
    """Start gateways one after the other, and run each command at each of them."""
    memory: list[float] = []
    seconds: dict[str, list[float]] = {command: [] for command in _COMMANDS}
    for _ in range(turns):
        with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch:
            folder = Path(scratch)
            with _gateway(folder, cores) as gateway:
                memory.append(_anonymous(gateway.process) / _MIB)
                for command, found in seconds.items():
                    found.append(_processor_time(folder, cores, command, gateway.operator))
    say(f"  idle of {turns}")
    return section(memory, seconds)


def section(memory: list[float], seconds: dict[str, list[float]]) -> Section:
    """Return the table for the anonymous memory (MiB) and the processor times of the commands (seconds)."""
    rows = [_row("idle gateway, MiB", memory, _MEMORY, 1)]
    rows += [_row(f"`gatehouse {command}`, s", found, _COMMAND, 2) for command, found in seconds.items()]
    return Section("Idle", _TEXT, Table(("", "median", "highest", "goal"), rows))


def _row(name: str, found: list[float], bound: float, digits: int) -> tuple[str, str, str, str]:
    middle = statistics.median(found)
    return name, f"{middle:.{digits}f}", f"{max(found):.{digits}f}", goal(middle, bound, most=True)


@contextmanager
def _gateway(folder: Path, cores: set[int]) -> Iterator[Idle]:
    """Run a gateway with the example config on free ports."""
    text = _EXAMPLE.read_text()
    config, log = folder / "gateway.yaml", folder / "log"
    listening = text.replace("#listen: 0.0.0.0:8080", "listen: 127.0.0.1:0").replace(
        "127.0.0.1:9090", "127.0.0.1:0"
    )
    config.write_text(listening)
    process = subprocess.Popen(
        pinned([sys.executable, "-m", "gatehouse", "serve", "--log", "json"], cores),
        env=_environment(),
        stderr=log.open("w"),
        cwd=folder,
    )
    try:
        started = _started(log)
        time.sleep(_SETTLED)
        yield Idle(process.pid, f"http://{started}")
    finally:
        process.terminate()
        process.wait()


def _environment() -> dict[str, str]:
    names = re.findall(r"env:([A-Z_]+)", _EXAMPLE.read_text())
    return environment(**dict.fromkeys(names, _SECRET))


def _started(log: Path) -> str:
    """Wait until the gateway is ready. Return the address of the operator listener."""
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            if '"gateway.started"' in line and line.endswith("}"):
                return str(json.loads(line)["operator"])
        time.sleep(_LOOK)
    raise AssertionError("the gateway did not become ready")


def _anonymous(process: int) -> int:
    """Return the anonymous memory of a process in bytes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def _processor_time(folder: Path, cores: set[int], command: str, operator: str) -> float:
    words = [sys.executable, "-m", "gatehouse", *command.split(), "--operator", operator]
    process = subprocess.Popen(
        pinned(words, cores),
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    if command == _ENDLESS:
        time.sleep(_SETTLED)
        process.send_signal(signal.SIGINT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # 1 says that something needs an operator, or that an event does not exist.
    assert process.returncode in (0, 1, 130), f"gatehouse {command} exits with {process.returncode}"
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-idle", description=__doc__)
    parser.add_argument("--turns", type=int, default=_TURNS)
    print(machine.describe())
    print("\n" + measure(machine.places().one, print, parser.parse_args().turns).markdown())


if __name__ == "__main__":
    main()
