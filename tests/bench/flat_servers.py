"""A gateway on an existing store file, and its resource usage as the kernel reports it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bench import machine
from bench.contestants import KEEP_COMPILED, SIGNING
from bench.signed import SECRET

_WITHIN = 60.0
_EVERY = 0.005
_CONFIG = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{url: "sqlite:///gatehouse.db", min_free: 0}}
sources:
  stored: {{provider: mando, secrets: env:SECRET}}    # has no route
  sent: {{provider: mando, secrets: env:SECRET}}
destinations:
  app: {{url: "http://127.0.0.1:{port}/events", secret: env:SIGNING}}
routes:
  - {{from: sent, to: app}}
"""
_ENVIRONMENT = {"SECRET": SECRET, "SIGNING": SIGNING, **KEEP_COMPILED}


class Usage(NamedTuple):
    """The resources that a process has used since it started."""

    cpu: float
    #: The number of read calls, and the bytes read from disk and written to disk.
    reads: int
    read_bytes: int
    written_bytes: int

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu - other.cpu,
            self.reads - other.reads,
            self.read_bytes - other.read_bytes,
            self.written_bytes - other.written_bytes,
        )


class Server:
    """A running gateway."""

    def __init__(self, name: str, folder: Path, process: int, ports: tuple[int, int], ready: float) -> None:
        self.name = name
        self.file = folder / "gatehouse.db"
        self.process = process
        self.port, self.operator_port = ports
        #: Seconds from the start of the process to the first 200 from `/readyz`.
        self.ready = ready

    def freeze(self) -> None:
        """Stop the process while another gateway is measured."""
        os.kill(self.process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        os.kill(self.process, signal.SIGCONT)

    def resident(self) -> float:
        """Return its resident memory (MB)."""
        return self._status("VmRSS")

    def peak_resident(self) -> float:
        """Return its peak resident memory (MB)."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024 / 1e6

    def usage(self) -> Usage:
        """Return the resources that it has used so far."""
        pairs = (line.split(": ") for line in Path(f"/proc/{self.process}/io").read_text().splitlines())
        io = {name: int(value) for name, value in pairs}
        cpu = machine.cpu_seconds(self.process)
        return Usage(cpu, io["syscr"], io["read_bytes"], io["write_bytes"])

    def counted(self, metric: str, **labels: str) -> int:
        """Return the sum of a metric over all its series with these labels."""
        samples = (
            sample
            for family in text_string_to_metric_families(ask(self.operator_port, "/metrics"))
            for sample in family.samples
        )
        return sum(
            int(sample.value)
            for sample in samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )


@contextmanager
def destination(cores: set[int]) -> Iterator[int]:
    """Run the counting destination, and yield its port."""
    command = [sys.executable, "-m", "bench.flat_destination"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment())
    try:
        machine.pin(process.pid, cores)
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(
    name: str, folder: Path, cores: set[int], port: int, *, settings: str = _CONFIG, **environment: str
) -> Iterator[Server]:
    """Run a gateway on `gatehouse.db` in a folder, creating the file if needed. Its destination is at the
    port, which replaces `{port}` in `settings`.

    With an additional environment, it runs bench/flat_serve.py.
    """
    folder.mkdir(exist_ok=True)
    config, log = folder / "gateway.yaml", folder / "log"
    config.write_text(settings.format(port=port))
    cpus = ",".join(map(str, sorted(cores)))
    module = "bench.flat_serve" if environment else "gatehouse"
    command = ["taskset", "-c", cpus, sys.executable, "-m", module, "serve", "-c", str(config)]
    started = time.monotonic()
    with log.open("wb") as opened:
        process = subprocess.Popen(command, stderr=opened, env=_environment(**environment), cwd=folder)
    try:
        ports = _ports(process, log)
        _wait_for(process, log, lambda: _is_ready(ports[1]))
        yield Server(name, folder, process.pid, ports, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(_WITHIN)


def ask(port: int, path: str, method: str = "GET") -> str:
    """Return the body of a 2xx answer. Raises `AssertionError` if the listener answers otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.status < http.client.MULTIPLE_CHOICES, f"{method} {path}: {answer.status} {text}"
    return text


def _is_ready(port: int) -> bool:
    try:
        ask(port, "/readyz")
    except (AssertionError, OSError):
        return False
    return True


def _ports(process: subprocess.Popen[bytes], log: Path) -> tuple[int, int]:
    line: dict[str, str] = {}

    def has_started() -> bool:
        for text in log.read_text().splitlines():
            if '"gateway.started"' in text and text.endswith("}"):
                line.update(json.loads(text))
        return bool(line)

    _wait_for(process, log, has_started)
    ingest, operator = (int(line[key].rpartition(":")[2]) for key in ("listen", "operator"))
    return ingest, operator


def _wait_for(process: subprocess.Popen[bytes], log: Path, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + _WITHIN
    while not is_so():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < until, "the gateway did not become ready"
        time.sleep(_EVERY)


def _environment(**more: str) -> dict[str, str]:
    tests = Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}
