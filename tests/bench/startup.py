"""Measures the duration of `gatehouse --help`, and the time until a new gateway is ready."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.contestants import environment, pinned, settings
from bench.report import Section, Table, goal

_TURNS = 7
_READY_WITHIN = 30.0
_LOOK = 0.003
_HELP, _READY = 0.1, 0.5
_TEXT = (
    "Wall time from the start of the process, on one core. `serve` has an empty store and counts as ready "
    "when `/readyz` answers 200."
)


class Start(NamedTuple):
    """What a start took until the gateway was ready, in seconds."""

    wall: float
    cpu: float


def measure(cores: set[int], say: Callable[[str], object], turns: int = _TURNS) -> Section:
    """Run each a few times, by turns."""
    helps, readies = [], []
    for _ in range(turns):
        helps.append(_help(cores))
        with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
            readies.append(start(Path(folder), cores, _program()).wall)
    found = section(helps, readies)
    say(f"  start-up of {turns}")
    return found


def section(helps: list[float], readies: list[float]) -> Section:
    """Return the table for the two lists of durations (seconds)."""
    rows = [
        (
            name,
            f"{statistics.median(times):.2f}",
            f"{max(times):.2f}",
            goal(statistics.median(times), bound, most=True),
        )
        for name, times, bound in (
            ("`gatehouse --help`", helps, _HELP),
            ("`gatehouse serve` until ready", readies, _READY),
        )
    ]
    return Section("Start-up", _TEXT, Table(("", "median s", "slowest s", "goal"), rows))


def _help(cores: set[int]) -> float:
    started = time.perf_counter()
    subprocess.run(
        pinned([*_program(), "--help"], cores), env=environment(), check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def start(folder: Path, cores: set[int], program: list[str]) -> Start:
    """Start a gateway in an empty folder, wait until it is ready, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = settings({"url": "sqlite:///gatehouse.db", "min_free": 0}, {})
    config["operator"] = {"listen": f"127.0.0.1:{port}"}
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config))
    command = pinned([*program, "serve", "-c", str(file)], cores)
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, cwd=folder)
    try:
        _wait(port)
        return Start(time.perf_counter() - started, machine.precise_cpu_seconds(process.pid))
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until:
        if _status(port) == http.client.OK:
            return
        time.sleep(_LOOK)
    raise AssertionError("the gateway did not become ready")


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_READY_WITHIN)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()


def _program() -> list[str]:
    installed = Path(sys.executable).with_name("gatehouse")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "gatehouse"]
