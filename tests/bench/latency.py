"""Measures the latency of answers and deliveries at an ordinary load, far below the maximum."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import signed
from bench.contestants import Contestant
from bench.report import Section, Table, goal, percentile
from bench.rounds import STORED
from bench.speed import TIMED, Running
from bench.steady import Answer

_RATE = 300
_SIZE = 2000
_SECONDS = 5
_TURNS = 2
_DELIVERED_WITHIN = 20.0
_MOST_TIMES, _MOST_MS = 10, 25
_OK = 200

_TEXT = f"""
The generator sends {_RATE} events of 2 KB per second at random moments that are fixed in advance, whether or
not earlier requests have been answered. The servers take turns, {_SECONDS * _TURNS} s each in total. Times
count from the planned moment, so they include waiting for a busy generator or for a connection. *Delivered*
is when the destination had read the event, by the same clock. *Late* is the 99th percentile of the
generator's own delay, which is part of all the other times. The goals apply to the 99th percentile: answers
within {_MOST_TIMES} times that of the bare handler, deliveries within {_MOST_MS} ms.
"""


class Times(NamedTuple):
    """Milliseconds from the planned moments."""

    answered: list[float]
    late: list[float]
    delivered: list[float]

    def __add__(self, other: object) -> Times:
        assert isinstance(other, Times)
        return Times(*(mine + theirs for mine, theirs in zip(tuple(self), tuple(other), strict=True)))


def measure(running: Running, folder: Path, say: Callable[[str], object]) -> Section:
    """Measure the bare handler and the gateway by turns."""
    found = {"bare handler": Times([], [], []), "Gatehouse": Times([], [], [])}
    turns = ["bare handler", "Gatehouse", "Gatehouse", "bare handler"]
    for number, name in enumerate(turns * (_TURNS // 2)):
        times = _turn(running, folder / "steady", name, f"lat{number}")
        found[name] += times
        say(f"  latency  {name:20} p99 {percentile(times.answered, 0.99):6.1f} ms")
    return section(found)


def _turn(running: Running, file: Path, name: str, events: str) -> Times:
    on, path = (running.gateway, TIMED) if name == "Gatehouse" else (running.handler, STORED)
    signed.write(file, path, events, _RATE * _SECONDS, _SIZE)
    command = [sys.executable, "-m", "bench.steady", str(on.port), str(file), str(_RATE)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    answers = [Answer(*json.loads(line)) for line in done.stdout.splitlines()]
    assert all(answer.status == _OK for answer in answers), "not all events were accepted"
    came: Mapping[str, float] = {}
    if path == TIMED:
        came = deliveries(running.clock, {signed.event_id(events, number) for number in range(len(answers))})
    return times_of(answers, came, events)


def times_of(answers: Sequence[Answer], came: Mapping[str, float], events: str) -> Times:
    """Return the times of the answers, and the arrival times of the delivered events."""
    named = ((signed.event_id(events, number), answer.planned) for number, answer in enumerate(answers))
    return Times(
        [(answer.answered - answer.planned) * 1000 for answer in answers],
        [(answer.sent - answer.planned) * 1000 for answer in answers],
        [(came[event] - planned) * 1000 for event, planned in named if event in came],
    )


def deliveries(clock: Contestant, expected: set[str]) -> dict[str, float]:
    """Wait for events at the destination, and return the arrival time of each, in seconds of its clock."""
    until = time.monotonic() + _DELIVERED_WITHIN
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", clock.port, timeout=_DELIVERED_WITHIN)
        connection.request("GET", "/")
        came: dict[str, float] = json.loads(connection.getresponse().read())
        connection.close()
        if expected <= came.keys():
            return came
        time.sleep(0.1)
    raise AssertionError("not all events arrived at the destination")


def section(found: Mapping[str, Times]) -> Section:
    """Return the table. The first entry of `found` is the reference."""
    reference = percentile(next(iter(found.values())).answered, 0.99)
    columns = (
        "",
        "answer p50 ms",
        "p99 ms",
        "times",
        "goal",
        "delivered p50 ms",
        "p99 ms",
        "goal",
        "late ms",
    )
    rows = [_row(name, times, reference) for name, times in found.items()]
    return Section("Latency at ordinary load", _TEXT.strip(), Table(columns, rows))


def _row(name: str, times: Times, reference: float) -> tuple[str, ...]:
    last = percentile(times.answered, 0.99)
    delivered = percentile(times.delivered, 0.99)
    return (
        name,
        f"{percentile(times.answered, 0.5):.2f}",
        f"{last:.2f}",
        f"{last / reference:.1f}",
        goal(last / reference, _MOST_TIMES, most=True) if times.delivered else "",
        f"{percentile(times.delivered, 0.5):.2f}" if times.delivered else "",
        f"{delivered:.2f}" if times.delivered else "",
        goal(delivered, _MOST_MS, most=True) if times.delivered else "",
        f"{percentile(times.late, 0.99):.2f}",
    )
