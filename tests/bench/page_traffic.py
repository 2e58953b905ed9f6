"""What a gateway gets while operators look at its page: events, and requests that it refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from bench import signed
from bench.contestants import pinned
from bench.report import percentile
from bench.rounds import SENT

#: Events per second.
RATE: Final = 500
#: The gateway keeps so many refused requests of each source.
REFUSED_EACH: Final = 20
SOURCES: Final = ("stored", "sent", "stripe", "github", "shopify", "slack")
CONFIG: Final = """
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0"}}
store: {{url: "sqlite:///gatehouse.db", min_free: 0}}
sources:
  stored: {{provider: mando, secrets: env:SECRET}}    # has no route
  sent: {{provider: mando, secrets: env:SECRET}}
  stripe: {{provider: stripe, secrets: env:SECRET}}
  github: {{provider: github, secrets: env:SECRET}}
  shopify: {{provider: shopify, secrets: env:SECRET}}
  slack: {{provider: slack, secrets: env:SECRET}}
destinations:
  sent: {{url: "http://127.0.0.1:{port}/events", secret: env:SIGNING}}
  paused: {{url: "http://127.0.0.1:{port}/events", secret: env:SIGNING}}
  rare: {{url: "http://127.0.0.1:{port}/events", secret: env:SIGNING}}
routes:
  - {{from: sent, to: sent}}
"""
_AT_ONCE: Final = 10
_LEAD: Final = 2.0
_OK: Final = 200
_ERRORS: Final = 400


@dataclass
class Arrived:
    """What happened to the events: milliseconds until their answers, and how many were not accepted."""

    times: list[float] = field(default_factory=list)
    refused: int = 0

    def __str__(self) -> str:
        p50, p99 = (percentile(self.times, share) for share in (0.5, 0.99))
        return f"{len(self.times):,} events, {self.refused} not accepted; p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def refuse(port: int) -> None:
    """Send as many requests to each source as the gateway keeps, and check that it refuses them."""
    now = str(int(time.time()))
    kinds: list[dict[str, str]] = [
        {},
        {"X-Mando-Signature": "sha256=" + "0" * 64},
        {"Stripe-Signature": f"t={now},v1={'0' * 64}"},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        {"webhook-id": "msg_1", "webhook-timestamp": now, "webhook-signature": "v1," + "A" * 43 + "="},
    ]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for number in range(REFUSED_EACH):
            for source in SOURCES:
                headers = {"Content-Type": "application/json", **kinds[number % len(kinds)]}
                connection.request("POST", f"/webhooks/{source}", signed.body("refused", number), headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status >= _ERRORS, "a request with a wrong signature was accepted"


@contextlib.contextmanager
def arriving(port: int, folder: Path, cores: set[int]) -> Iterator[Arrived]:
    """Send events at an ordinary rate until the block ends. Then `Arrived` is complete."""
    ended = threading.Event()
    arrived = Arrived()
    thread = threading.Thread(target=_send, args=(port, folder / "steady", cores, ended, arrived))
    thread.start()
    try:
        time.sleep(_LEAD)
        yield arrived
    finally:
        ended.set()
        thread.join()


def _send(port: int, file: Path, cores: set[int], ended: threading.Event, arrived: Arrived) -> None:
    run = f"{os.getpid()}_{time.monotonic_ns() // 10**6 % 10**8:08}"
    command = pinned([sys.executable, "-m", "bench.steady", str(port), str(file), str(RATE)], cores)
    for number in count():
        signed.write(file, SENT, f"{run}_{number:04}", RATE * _AT_ONCE)
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr[-500:]
        for planned, _, answered, status in map(json.loads, done.stdout.splitlines()):
            arrived.times.append((answered - planned) * 1000)
            arrived.refused += status != _OK
        if ended.is_set():
            return
