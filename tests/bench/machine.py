"""The machine: assigns its cores, measures processor time, and describes the hardware and software."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from gatehouse.ingest import pipeline

#: Whether the gateway is the compiled build. The bare servers are the same in both.
IS_COMPILED = not (pipeline.__file__ or "").endswith(".py")

_TICK = os.sysconf("SC_CLK_TCK")
FEW_CORES = 4
_SYNCS = 40


class Places(NamedTuple):
    """The cores for each part."""

    one: set[int]
    """The core of a measured server that is one process."""
    two: set[int]
    database: set[int]
    load: set[int]
    """The cores of the load generator and the destination."""


def places() -> Places:
    """Assign the cores. With fewer than four, some parts share a core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < FEW_CORES:
        return Places({cores[0]}, set(cores[:2]), {cores[-1]}, {cores[-1]})
    return Places({cores[0]}, set(cores[:2]), {cores[2]}, set(cores[3:]))


def descendants(process: int) -> list[int]:
    """Return a process and all its running descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            parents[int(entry.name)] = int(stat[1])
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process and its descendants, including those that have ended."""
    ticks = 0
    for each in descendants(process):
        stat = _stat(each)
        ticks += sum(map(int, stat[11:15])) if stat else 0
    return ticks / _TICK


def precise_cpu_seconds(process: int) -> float:
    """Return the processor time of the threads of a process that have not ended, to the nanosecond."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def busy_seconds() -> float:
    """Return the processor time of the whole machine, including the time stolen by the hypervisor."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / _TICK


def pin(process: int, cores: set[int]) -> None:
    """Pin a process and its descendants, present and future, to these cores."""
    for each in descendants(process):
        os.sched_setaffinity(each, cores)


def describe() -> str:
    """Describe the machine and the software that the figures apply to."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores ({cpu}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; "
        f"fdatasync of 4 KiB {_sync_time() * 1000:.1f} ms; load {os.getloadavg()[0]:.1f}"
    )


def _sync_time() -> float:
    """Return the median time to sync 4 KiB to the disk of the directory for temporary files."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _stat(process: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name (state, parent, …), or None if the process has
    ended.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
