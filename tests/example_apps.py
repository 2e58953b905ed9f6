"""The programs of deploy/examples/, run as their developers would run them.

The Python programs run with two worker processes.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from standardwebhooks import Webhook

from machine import lacking

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "deploy/examples"
FETCHED = ROOT / ".tools/examples"
STACKS = {
    "fastapi": "fastapi/app.py",
    "flask": "flask/app.py",
    "django": "django/app.py",
    "express": "express/app.mjs",
    "go": "go/main.go",
}

NEW = "whsec_bmV3LXNlY3JldC1vZi10aGUtZGVzdGluYXRpb24="
OLD = "whsec_b2xkLXNlY3JldC1vZi10aGUtZGVzdGluYXRpb24="
#: A timeout in seconds, much longer than a start or an answer takes.
_WITHIN = 30.0


class Example(NamedTuple):
    """A running example."""

    port: int
    database: Path

    @property
    def url(self) -> str:
        """The URL to which the gateway posts."""
        return f"http://127.0.0.1:{self.port}/events"

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Post to the example as a gateway does. Returns the status."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WITHIN)) as connection:
            connection.request("POST", "/events", body, headers)
            return connection.getresponse().status

    def post_at_once(self, body: bytes, headers: dict[str, str], times: int) -> list[int]:
        """Post the same request several times at once."""
        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(lambda _: self.post(body, headers), range(times)))

    def rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        """Query the database of the example."""
        with closing(sqlite3.connect(self.database)) as opened:
            return opened.execute(query, values).fetchall()

    def totals(self, sale: str) -> list[str]:
        """Return the totals of a sale, one for each time that the example handled the event."""
        return [total for (total,) in self.rows("SELECT total FROM sales WHERE sale = ?", sale)]

    def has_received(self, webhook_id: str) -> bool:
        """Tell whether the example stored the id of an event."""
        return bool(self.rows("SELECT 1 FROM received_events WHERE webhook_id = ?", webhook_id))


def signed(
    body: bytes,
    webhook_id: str,
    *,
    secret: str = NEW,
    at: float | None = None,
    kind: str = "cloudevents+json",
) -> dict[str, str]:
    """Return the headers of a POST from the gateway."""
    moment = int(time.time() if at is None else at)
    # The library accepts a naive time, or a time in UTC.
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(moment, UTC), body.decode())
    return {
        "content-type": f"application/{kind}; charset=utf-8",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": signature,
        "gatehouse-attempt": "1",
    }


@contextmanager
def running(stack: str, folder: Path) -> Iterator[Example]:
    """Run an example on a free port, in a copy of its folder. It ends with the block."""
    here = folder / stack
    shutil.copytree(EXAMPLES / stack, here)
    database, output = folder / f"{stack}.db", folder / f"{stack}.log"
    environment = os.environ | {
        "WEBHOOK_SECRETS": f"{NEW} {OLD}",
        "DATABASE": str(database),
        "PORT": "0",
        "LISTEN": "127.0.0.1:0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NODE_ENV": "production",
    }
    command = _command(stack, here)
    if stack == "django":
        subprocess.run([sys.executable, "app.py"], cwd=here, env=environment, check=True, timeout=_WITHIN)
    with output.open("wb") as opened:
        process = subprocess.Popen(
            command, cwd=here, env=environment, stdout=opened, stderr=opened, start_new_session=True
        )
    try:
        yield Example(_started(process, output), database)
    finally:
        # The workers are in the same process group, and have nothing to finish.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_WITHIN)


def _command(stack: str, here: Path) -> list[str]:
    gunicorn = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2"]
    match stack:
        case "fastapi":
            return [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--workers", "2"]
        case "flask":
            return [sys.executable, *gunicorn, "--threads", "4", "app:app"]
        case "django":
            return [sys.executable, *gunicorn, "--threads", "4", "app:application"]
        case "express":
            (here / "node_modules").symlink_to(_fetched("express/node_modules"))
            return [_node(), "app.mjs"]
        case _:
            return [str(_fetched("go/receive-events"))]


def _fetched(name: str) -> Path:
    if not (found := FETCHED / name).exists():
        lacking(f"no {found.relative_to(ROOT)}: run tests/acceptance/fetch_examples.sh")
    return found


def _node() -> str:
    fetched = FETCHED / "express/node_modules/node/bin/node"
    found = str(fetched) if fetched.exists() else shutil.which("node")
    if found is None:
        lacking("no node: run tests/acceptance/fetch_examples.sh")
    return found


def _started(process: subprocess.Popen[bytes], output: Path) -> int:
    """Wait until the example answers. Returns its port, which each example prints."""
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"127\.0\.0\.1:([1-9]\d*)", output.read_text()):
            port = int(found[1])
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN)) as connection:
                    connection.request("GET", "/events")
                    connection.getresponse()
            except ConnectionError:
                pass
            else:
                return port
        time.sleep(0.05)
    raise AssertionError(f"it did not start: {output.read_text()}")
