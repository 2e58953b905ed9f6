"""The servers that are measured: bare servers, gateways as in production, the compiled reference, and
hand-written receivers.

Each server is a separate process that is pinned to the given cores. Each server with a store has its own
store.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bench.signed import SECRET
from postgres_server import Database

_WITHIN = 40.0
_HERE = Path(__file__).parent
#: The settings of a destination with a path, by the name that its source and the destination share.
Destinations = Mapping[str, Mapping[str, object]]
#: What build_reference.sh builds.
_REFERENCE = _HERE.parents[1] / ".tools/reference/reference"
#: The secret with which contestants sign their deliveries.
SIGNING = "whsec_Z2F0ZWhvdXNlLWJlbmNobWFyay1zaWduaW5nLWtleQ=="
#: Python may keep what it compiles, because pip has compiled an installed gateway too.
KEEP_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
_ENVIRONMENT = {"SECRET": SECRET, "SIGNING": SIGNING, **KEEP_COMPILED}


class Contestant(NamedTuple):
    """A running server."""

    name: str
    process: int
    port: int
    #: The port of its metrics. None for a server that has none: it can deliver only within its requests.
    operator_port: int | None = None
    database: Database | None = None

    def counted(self) -> Counter[str]:
        """Return the sum of each of the gateway's metrics, and the counts `accepted`, `duplicate` and
        `delivered`.
        """
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
def program(
    name: str, command: Sequence[str], cores: set[int], folder: Path | None = None, **variables: str
) -> Iterator[Contestant]:
    """Run a program that prints its port and optionally its name, in a folder if one is given."""
    if folder:
        folder.mkdir(exist_ok=True)
    command, given = pinned(command, cores), environment(**variables)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=given, cwd=folder, text=True) as process:
        try:
            assert process.stdout is not None
            port, _, called = process.stdout.readline().strip().partition(" ")
            assert port, f"{name} did not start"
            yield Contestant(name.format(called), process.pid, int(port))
        finally:
            process.kill()


def bare(cores: set[int], kind: str = "low-level", url: str = "") -> AbstractContextManager[Contestant]:
    """Run a server from bare.py: `low-level`, `handler`, `clock`, or `proxy`, which needs a URL."""
    names = {"proxy": "bare proxy", "clock": "clock"}
    return program(names.get(kind, "bare handler"), [sys.executable, "-m", "bench.bare", kind, url], cores)


def fastapi(folder: Path, cores: set[int], url: str) -> AbstractContextManager[Contestant] | None:
    """Run the FastAPI application. Returns None if FastAPI is not installed."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "httptools", "httpx"))):
        return None
    command = [sys.executable, "-m", "bench.instead.fastapi_app"]
    return program("FastAPI", command, cores, folder, DESTINATION=url)


def node(cores: set[int], url: str) -> AbstractContextManager[Contestant] | None:
    """Run the Node application, with Express if it was fetched. Returns None if Node is not installed."""
    if not (found := shutil.which("node")):
        return None
    command = [found, str(_HERE / "instead/express.cjs")]
    modules = _HERE.parents[1] / ".tools/express/node_modules"
    return program("Node, {}", command, cores, DESTINATION=url, NODE_PATH=str(modules))


def reference(folder: Path, cores: set[int], url: str) -> AbstractContextManager[Contestant] | None:
    """Run the compiled reference with its store in the folder. Returns None if it has not been built."""
    return _reference(folder, cores, url) if _REFERENCE.is_file() else None


@contextmanager
def _reference(folder: Path, cores: set[int], url: str) -> Iterator[Contestant]:
    with program("compiled reference", [str(_REFERENCE)], cores, folder, DESTINATION=url) as running:
        yield running._replace(operator_port=running.port)  # it serves its counts on its only port


@contextmanager
def gateway(
    name: str,
    folder: Path,
    cores: set[int],
    *,
    destination: int,
    database: Database | None = None,
    workers: int = 1,
    more: Destinations | None = None,
) -> Iterator[Contestant]:
    """Run a gateway, on SQLite unless a database is given. Its log goes to a file.

    Source `stored` has no route. Events of source `sent` are delivered to the port `destination` with default
    settings. `more` adds sources that have one destination each.
    """
    folder.mkdir()
    store: Mapping[str, object] = {"url": "sqlite:///gatehouse.db", "min_free": 0}
    if database is not None:
        store = {"url": database.url, "password": "env:PASSWORD"}
    config, log = folder / "gateway.yaml", folder / "log"
    destinations = {"sent": {"url": f"http://127.0.0.1:{destination}/events"}, **(more or {})}
    config.write_text(json.dumps(settings(store, destinations)))
    command = pinned([sys.executable, "-m", "gatehouse", "serve", "-c", str(config)], cores)
    variables = environment(PASSWORD=database.password if database else "")
    with log.open("wb") as opened:
        options = ["--workers", str(workers)] if workers > 1 else []
        process = subprocess.Popen([*command, *options], stderr=opened, env=variables, cwd=folder)
    try:
        line = _started(process, log)
        ingest, operator = (int(str(line[key]).rpartition(":")[2]) for key in ("listen", "operator"))
        yield Contestant(name, process.pid, ingest, operator, database)
    finally:
        process.terminate()
        process.wait(_WITHIN)


def settings(store: Mapping[str, object], destinations: Destinations) -> dict[str, object]:
    """Return a config in which each destination has a source of the same name.

    `stored` has no destination.
    """
    source = {"provider": "mando", "secrets": "env:SECRET"}
    return {
        "server": {"listen": "127.0.0.1:0"},
        "operator": {"listen": "127.0.0.1:0"},
        "store": store,
        "sources": dict.fromkeys(["stored", *destinations], source),
        "destinations": {name: {"secret": "env:SIGNING", **given} for name, given in destinations.items()},
        "routes": [{"from": name, "to": name} for name in destinations],
    }


def pinned(command: Sequence[str], cores: set[int]) -> list[str]:
    """Return a command that is pinned to these cores."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]


def environment(**more: str) -> dict[str, str]:
    """Return the environment that all contestants share, with these additions."""
    tests = _HERE.parent
    paths = [str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def _started(process: subprocess.Popen[bytes], log: Path) -> dict[str, object]:
    """Wait for the log line that says that the gateway serves. Workers log the same line earlier."""
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"gateway.started"' in line and '"worker":' not in line and line.endswith("}"):
                found: dict[str, object] = json.loads(line)
                return found
        time.sleep(0.02)
    raise AssertionError(f"the gateway did not start: {log.read_text()[-2000:]}")
