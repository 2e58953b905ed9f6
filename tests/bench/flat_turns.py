"""Turns: one gateway at a time gets load while the others are stopped."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import signed
from bench.flat_files import KEY_BITS
from bench.flat_servers import Server

_LUA = Path(__file__).with_name("wrk.lua")
_FETCHED = Path(__file__).parents[2] / ".tools/wrk/usr"
_CONNECTIONS = 32
#: Requests per second; no gateway is this fast.
_MOST_PER_SECOND = 8_000


class Turn(NamedTuple):
    """The figures of one turn."""

    #: 2xx answers per second.
    accepted: float
    p50: float
    p99: float
    longest: float
    refused: float
    #: Processor time per event (µs).
    cpu: float
    #: Per event: read calls, bytes read from disk, bytes written.
    reads: float
    read_bytes: float
    written_bytes: float
    #: Megabytes.
    resident: float


Turns = Mapping[str, Sequence[Turn]]


class Load:
    """Sends new events with random ids."""

    def __init__(self, folder: Path, cores: set[int]) -> None:
        self._file = folder / "requests"
        self._cores = ",".join(map(str, sorted(cores)))

    def turn(self, on: Server, seconds: int) -> Turn:
        """Send prepared requests on all connections for the duration of a turn."""
        before, seen = on.usage(), on.counted("gatehouse_requests_total", outcome="duplicate")
        found = self._wrk(on.port, seconds)
        used = on.usage() - before
        assert not found["broken"], f"{found['broken']} connections broke"
        assert on.counted("gatehouse_requests_total", outcome="duplicate") == seen, (
            "the prepared requests ran out and were sent again"
        )
        accepted = found["answers"] - found["refused"]
        return Turn(
            accepted=accepted / found["seconds"],
            p50=found["p50"],
            p99=found["p99"],
            longest=found["longest"],
            refused=found["refused"],
            cpu=used.cpu / accepted * 1e6,
            reads=used.reads / accepted,
            read_bytes=used.read_bytes / accepted,
            written_bytes=used.written_bytes / accepted,
            resident=on.resident(),
        )

    def prepare(self, seconds: int) -> None:
        """Sign the requests for a turn, and write the file that wrk.lua reads."""
        count = seconds * _MOST_PER_SECOND
        ids = (f"{secrets.randbits(KEY_BITS):0{KEY_BITS // 4}x}" for _ in range(count))
        with self._file.open("wb") as opened:
            for number, each in enumerate(ids):
                request = signed.request("/webhooks/stored", each, number)
                if not number:
                    opened.write(f"{len(request)} {count}\n".encode())
                opened.write(request)

    def _wrk(self, port: int, seconds: int) -> dict[str, float]:
        program, environment = _find_wrk()
        options = ["-t1", f"-c{_CONNECTIONS}", f"-d{seconds}", "-s", str(_LUA), f"http://127.0.0.1:{port}"]
        command = ["taskset", "-c", self._cores, program, *options, "--", str(self._file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return found


def take_turns(
    load: Load,
    servers: Sequence[Server],
    *,
    rounds: int,
    seconds: int,
    before: Callable[[Server], None] | None = None,
) -> Turns:
    """Give each gateway its turns, in order and then in reverse. `before` runs before each turn."""
    found: dict[str, list[Turn]] = {server.name: [] for server in servers}
    for server in servers:
        server.freeze()
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            load.prepare(seconds)
            if before is not None:
                before(server)
            server.thaw()
            turn = load.turn(server, seconds)
            server.freeze()
            found[server.name].append(turn)
            print(f"  round {number + 1}  {server.name:32} {turn.accepted:8,.0f} /s", flush=True)
    for server in servers:
        server.thaw()
    return found


def median(turns: Iterable[Turn]) -> Turn:
    """Return the median of each figure."""
    return Turn(*map(statistics.median, zip(*turns, strict=True)))


def ratios(of: Sequence[Turn], to: Sequence[Turn]) -> list[float]:
    """Return the ratio of the accepted rates for each round."""
    return [mine.accepted / theirs.accepted for mine, theirs in zip(of, to, strict=True)]


_COLUMNS: Mapping[str, Callable[[Turn], str]] = {
    "accepted/s": lambda turn: f"{turn.accepted:,.0f}",
    "p50 ms": lambda turn: f"{turn.p50:.1f}",
    "p99 ms": lambda turn: f"{turn.p99:.1f}",
    "longest ms": lambda turn: f"{turn.longest:.0f}",
    "503": lambda turn: f"{turn.refused:.0f}",
    "gateway µs": lambda turn: f"{turn.cpu:.0f}",
    "reads": lambda turn: f"{turn.reads:.2f}",
    "read B": lambda turn: f"{turn.read_bytes:,.0f}",
    "written B": lambda turn: f"{turn.written_bytes:,.0f}",
    "resident MB": lambda turn: f"{turn.resident:.0f}",
}


def turn_table(title: str, found: Turns, reference: str) -> str:
    """Return the medians as a table in Markdown."""
    head = ["", *_COLUMNS, "ratio", "ratios"]
    rows = [[name, *_cells(turns, found[reference])] for name, turns in found.items()]
    return table(title, head, rows)


def _cells(turns: Sequence[Turn], reference: Sequence[Turn]) -> list[str]:
    middle, all_ratios = median(turns), ratios(turns, reference)
    shown = [write(middle) for write in _COLUMNS.values()]
    return [*shown, f"{statistics.median(all_ratios):.2f}", " ".join(f"{each:.2f}" for each in all_ratios)]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = (f"| {' | '.join(row)} |" for row in (head, rule, *rows))
    return "\n".join(("", title, "", *lines, ""))


def _find_wrk() -> tuple[str, dict[str, str]]:
    """Return the installed wrk, or the one that fetch_wrk.sh fetched, and its environment."""
    if found := shutil.which("wrk"):
        return found, dict(os.environ)
    (libraries,) = (_FETCHED / "lib").glob("*-linux-gnu")
    return str(_FETCHED / "bin/wrk"), {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
