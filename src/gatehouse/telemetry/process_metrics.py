"""The metrics that each process has by convention, such as its memory.

They have the names, types and help texts of prometheus_client. A system without /proc has none of them.
"""

from __future__ import annotations

import math
import os
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gatehouse.telemetry.metric_types import Counter, Gauge, format_number

if TYPE_CHECKING:
    from collections.abc import Iterator

_SELF: Final = Path("/proc/self")
#: The indexes of fields of /proc/self/stat after the name of the program (proc_pid_stat(5)).
_USER_TIME, _SYSTEM_TIME, _START, _VIRTUAL, _RESIDENT = 11, 12, 19, 20, 21


class _Metric(NamedTuple):
    name: str
    kind: str
    help_text: str
    value: float


def process_parts() -> Iterator[str]:
    """Write the metrics of this process in the text exposition format, one after the other."""
    with suppress(OSError):
        for name, kind, help_text, value in (*_times_and_memory(), *_descriptors()):
            full = f"process_{name}"
            yield f"# HELP {full} {help_text}\n# TYPE {full} {kind}\n{full} {format_number(value)}\n"


def _times_and_memory() -> Iterator[_Metric]:
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    resident = int(fields[_RESIDENT]) * resource.getpagesize()
    started = _boot_time() + int(fields[_START]) / ticks
    used = (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / ticks
    virtual = int(fields[_VIRTUAL])
    yield _Metric("virtual_memory_bytes", Gauge.kind, "Virtual memory size in bytes.", virtual)
    yield _Metric("resident_memory_bytes", Gauge.kind, "Resident memory size in bytes.", resident)
    start_help = "Start time of the process since unix epoch in seconds."
    yield _Metric("start_time_seconds", Gauge.kind, start_help, started)
    cpu_help = "Total user and system CPU time spent in seconds."
    yield _Metric("cpu_seconds_total", Counter.kind, cpu_help, used)


def _descriptors() -> Iterator[_Metric]:
    count = len(os.listdir(_SELF / "fd"))  # noqa: PTH208 - an iterator of paths costs more
    yield _Metric("open_fds", Gauge.kind, "Number of open file descriptors.", count)
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = math.inf if most == resource.RLIM_INFINITY else most
    yield _Metric("max_fds", Gauge.kind, "Maximum number of open file descriptors.", limit)


@cache
def _boot_time() -> int:
    """Return when the system started (unix seconds). Later answers would differ after the clock is set."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))
