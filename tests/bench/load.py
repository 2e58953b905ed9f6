"""Applies load to one contestant for a period, and returns the figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench import machine, signed
from bench.contestants import Contestant
from postgres_server import PostgresServer

_LUA = Path(__file__).with_name("wrk.lua")
_FETCHED = Path(__file__).parents[2] / ".tools/wrk/usr"
_CONNECTIONS = 32
#: Requests per second; no contestant that must not get an event twice is this fast.
_MOST_PER_SECOND = 25_000
_DRAINED_WITHIN = 120.0
#: Seconds between two reads of the number of pending deliveries: minimum and maximum.
_LOOK, _LOOK_AGAIN = 0.02, 0.3
#: Seconds. wrk counts a slower request as broken, and leaves it out of the latencies.
_ANSWERED_WITHIN = 20


class Stretch(NamedTuple):
    """The figures of one period of load."""

    #: 2xx answers per second.
    accepted: float
    p50: float
    p99: float
    refused: int
    #: Deliveries per second, from the first request to the last delivery. 0 without a destination.
    delivered: float = 0.0
    #: Processor time per event (µs).
    gateway_cpu: float = 0.0
    database_cpu: float = 0.0
    #: Bytes of PostgreSQL's write-ahead log per event.
    wal: float = 0.0
    #: Connections to the database when the load ended.
    connections: int = 0
    #: The share of the machine that other programs used.
    others: float = 0.0
    #: Latencies (ms).
    slowest: float = 0.0
    #: The number of 503 answers. Counted only with `harsh`.
    unavailable: int = 0
    #: Connections that were closed or got no answer in time.
    broken: int = 0


class Load:
    """Runs wrk."""

    def __init__(
        self, folder: Path, cores: set[int], postgres: PostgresServer | None, destination: int
    ) -> None:
        """`destination` is the process that receives deliveries, and `postgres` the server of the stores."""
        self._file = folder / "requests"
        self._cores = ",".join(map(str, sorted(cores)))
        self._postgres = postgres
        self._destination = destination
        self._wrk, self._environment = _find_wrk()
        self._number = 0

    def run(
        self,
        on: Contestant,
        path: str,
        seconds: float,
        *,
        connections: int = _CONNECTIONS,
        harsh: bool = False,
    ) -> Stretch:
        """Send requests on all connections for a period, and wait for the deliveries.

        With `harsh`, 503 answers are counted, which slows wrk, and connections may break.

        Raises:
            AssertionError: duplicates, broken connections, or deliveries that did not come.
        """
        self._number += 1
        count = round(seconds * _MOST_PER_SECOND)
        signed.write(self._file, path, f"{os.getpid()}_{self._number:04}", count)
        before, counted, started = self._usage(on), on.counted(), time.monotonic()
        found = self._wrk_on(on, seconds, connections, harsh=harsh)
        first = time.monotonic() - found["seconds"]
        at_database = self._connections(on)
        delivers = not path.endswith("/stored")
        last = _drained(on, counted, first) if delivers and on.operator_port else 0.0
        wall = (time.monotonic() - started) * (os.cpu_count() or 1)
        used, now = self._usage(on) - before, on.counted() - counted
        assert not now["duplicate"], "the prepared requests ran out and were sent again"
        assert harsh or not found["broken"], f"{found['broken']} connections broke"
        answered = (found["answers"] - found["refused"]) / found["seconds"]
        delivered = now["delivered"] / (last - first) if last else answered
        events = max(1, now["accepted"] or found["answers"] - found["refused"])
        return Stretch(
            accepted=answered,
            p50=found["p50"],
            p99=found["p99"],
            refused=int(found["refused"]),
            delivered=delivered if delivers else 0.0,
            gateway_cpu=used.gateway / events * 1e6,
            database_cpu=used.database / events * 1e6,
            wal=used.wal / events,
            connections=at_database,
            others=max(0.0, used.machine - used.all_ours - found["cpu"]) / wall,
            slowest=found["longest"],
            unavailable=int(found["unavailable"]),
            broken=int(found["broken"]),
        )

    def _wrk_on(self, on: Contestant, seconds: float, connections: int, *, harsh: bool) -> dict[str, float]:
        url = f"http://127.0.0.1:{on.port}"
        options = [
            "-t1",
            f"-c{connections}",
            f"--timeout={_ANSWERED_WITHIN}s",
            f"-d{max(1, round(seconds))}",
            "-s",
            str(_LUA),
            url,
        ]
        command = ["taskset", "-c", self._cores, self._wrk, *options, "--", str(self._file)]
        before = os.times()
        done = subprocess.run(
            [*command, "statuses"] if harsh else command,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        after = os.times()
        found: dict[str, float] = json.loads(done.stdout.strip().rpartition("\n")[2])
        own = after.children_user - before.children_user + after.children_system - before.children_system
        return found | {"cpu": own}

    def _usage(self, on: Contestant) -> _Usage:
        gateway = machine.cpu_seconds(on.process)
        all_ours = gateway + machine.cpu_seconds(self._destination) + sum(os.times()[:2])
        if self._postgres is None:
            return _Usage(gateway, 0, 0, machine.busy_seconds(), all_ours)
        postgres = machine.cpu_seconds(self._postgres.process)
        wal = int(self._postgres.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
        in_database = on.database is not None
        busy = machine.busy_seconds()
        return _Usage(gateway, postgres * in_database, wal * in_database, busy, all_ours + postgres)

    def _connections(self, on: Contestant) -> int:
        if on.database is None or self._postgres is None:
            return 0
        which = f"datname = '{on.database.name}' AND application_name = 'gatehouse'"
        return int(self._postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {which}"))  # noqa: S608


class _Usage(NamedTuple):
    gateway: float
    database: float
    wal: int
    machine: float
    all_ours: float

    def __sub__(self, other: _Usage) -> _Usage:
        return _Usage(
            self.gateway - other.gateway,
            self.database - other.database,
            self.wal - other.wal,
            self.machine - other.machine,
            self.all_ours - other.all_ours,
        )


def _drained(on: Contestant, before: Mapping[str, int], first: float) -> float:
    """Wait until every event accepted since `first` has been delivered. Return the time of the last delivery.

    It polls rarely while many deliveries are pending, because each poll costs the gateway a few ms of its
    core.
    """
    until, looked, was = first + _DRAINED_WITHIN, first, 0
    while (at := time.monotonic()) < until:
        now = on.counted()
        delivered = now["delivered"] - before["delivered"]
        left = now["accepted"] - before["accepted"] - delivered
        if left <= 0:
            return at
        time_left = left * (at - looked) / max(1, delivered - was)
        time.sleep(min(max(_LOOK, time_left / 2), _LOOK_AGAIN))
        looked, was = at, delivered
    raise AssertionError("not all accepted events were delivered")


def _find_wrk() -> tuple[str, dict[str, str]]:
    """Return the installed wrk, or the one that fetch_wrk.sh fetched, and its environment."""
    if found := shutil.which("wrk"):
        return found, dict(os.environ)
    (libraries,) = (_FETCHED / "lib").glob("*-linux-gnu")
    return str(_FETCHED / "bin/wrk"), {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
