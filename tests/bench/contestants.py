"""What is measured: the bare handler, and gateways as an operator runs them, each with its own store."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bench.machine import pin
from bench.signed import SECRET
from postgres_server import Database

_WITHIN = 40.0
_CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {store}
sources:
  stored: {{provider: mando, secrets: env:SECRET}}    # no route wants what comes here
  sent: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "http://127.0.0.1:{port}/events", secret: env:SIGNING}}
routes:
  - {{from: sent, to: app}}
"""
_ENVIRONMENT = {"SECRET": SECRET, "SIGNING": "whsec_Z2F0ZWhvdXNlLWJlbmNobWFyay1zaWduaW5nLWtleQ=="}


class Contestant(NamedTuple):
    """A server that runs."""

    name: str
    process: int
    port: int
    #: None: the bare handler, which counts nothing.
    operator_port: int | None = None
    database: Database | None = None

    def counted(self) -> Counter[str]:
        """Return the sums of the gateway's metrics, and `accepted`, `duplicate`, `delivered` of theirs."""
        if self.operator_port is None:
            return Counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.operator_port, timeout=_WITHIN)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        sums: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.labels.get("outcome") or sample.labels.get("result") or sample.name
                sums[name] += int(sample.value) if sample.value == sample.value else 0  # not NaN
        return sums


@contextmanager
def bare(cores: set[int]) -> Iterator[Contestant]:
    """Run the bare handler."""
    command = [sys.executable, "-m", "bench.bare"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment())
    try:
        pin(process.pid, cores)
        assert process.stdout is not None
        yield Contestant("bare handler", process.pid, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


@contextmanager
def gateway(
    name: str,
    folder: Path,
    cores: set[int],
    *,
    destination: int,
    database: Database | None = None,
    workers: int = 1,
) -> Iterator[Contestant]:
    """Run a gateway, on SQLite unless there is a database. Its log goes to a file."""
    folder.mkdir()
    store: Mapping[str, object] = {"url": "sqlite:///gatehouse.db", "min_free": 0}
    if database is not None:
        store = {"url": database.url, "password": "env:PASSWORD"}
    config, log = folder / "gateway.yaml", folder / "log"
    config.write_text(_CONFIG.format(store=json.dumps(store), port=destination))
    cpus = ",".join(map(str, sorted(cores)))
    command = ["taskset", "-c", cpus, sys.executable, "-m", "gatehouse", "serve", "-c", str(config)]
    environment = _environment(PASSWORD=database.password if database else "")
    with log.open("wb") as opened:
        options = ["--workers", str(workers)] if workers > 1 else []
        process = subprocess.Popen([*command, *options], stderr=opened, env=environment, cwd=folder)
    try:
        line = _started(process, log)
        ingest, operator = (int(str(line[key]).rpartition(":")[2]) for key in ("listen", "operator"))
        yield Contestant(name, process.pid, ingest, operator, database)
    finally:
        process.terminate()
        process.wait(_WITHIN)


def _environment(**more: str) -> dict[str, str]:
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def _started(process: subprocess.Popen[bytes], log: Path) -> dict[str, object]:
    """Wait for the line that says that it serves; each of several workers says it of itself before."""
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"gateway.started"' in line and '"worker":' not in line and line.endswith("}"):
                found: dict[str, object] = json.loads(line)
                return found
        time.sleep(0.02)
    raise AssertionError(f"the gateway did not start: {log.read_text()[-2000:]}")
