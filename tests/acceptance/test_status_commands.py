"""The commands that ask a running gateway for its state, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from doubles import providers

TOKEN = "operator-token-of-some-length"
CONFIG = """\
server: {{listen: "127.0.0.1:0"}}
operator: {{listen: "127.0.0.1:0", token: env:TOKEN}}
sources:
  shop: {{provider: mando, secrets: env:SECRET}}
destinations:
  billing: {{url: "{url}"}}
routes:
  - {{from: shop, to: billing}}
"""
SECRETS = {"SECRET": providers.SECRET, "TOKEN": TOKEN}
#: Modules that a command must not import to ask the gateway: each takes longer than the request.
HEAVY = (
    *(
        "aiohttp",
        "asyncio",
        "cryptography",
        "jinja2",
        "msgspec",
        "prometheus_client",
        "pydantic",
        "structlog",
    ),
)

Finished = subprocess.CompletedProcess[str]


class App(BaseHTTPRequestHandler):
    """Refuses events of the type `sale.broken` for good."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(410 if b"sale.broken" in body else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class Served:
    """A gateway that serves, and the commands that ask it."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], started: dict[str, Any]) -> None:
        self.folder = folder
        self.process = process
        self.url = f"http://{started['listen']}"
        self.operator = f"http://{started['operator']}"
        self._is_in_trouble = False

    def run(self, *words: str, **variables: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "gatehouse", *words, "--operator", self.operator],
            cwd=self.folder,
            env=environment() | variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def on_a_terminal(self, *words: str, **variables: str) -> str:
        leader, follower = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "gatehouse", *words, "--operator", self.operator],
            cwd=self.folder,
            env=environment() | {"TERM": "xterm"} | variables,
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        ) as process:
            os.close(follower)
            shown = b""
            try:
                while piece := os.read(leader, 65536):
                    shown += piece
            except OSError:  # the other end is closed
                pass
            os.close(leader)
            assert process.wait(timeout=30) in (0, 1)
        return shown.decode()

    def send(self, event_type: str, *, secret: str = providers.SECRET) -> None:
        body = providers.body(id=f"evt_{event_type}", type=event_type)
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/webhooks/shop", body, providers.mando(body, secret=secret))
        connection.getresponse().read()
        connection.close()

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return answer

    def get_into_trouble(self) -> None:
        """Have one dead letter and one refused request."""
        if not self._is_in_trouble:
            self.send("sale.broken")
            self.send("sale.forged", secret="another-secret-of-some-length")
            self.until(lambda status: status["destinations"][0]["dead"] == 1)
            self._is_in_trouble = True

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        for _ in range(60):
            if holds(self.status()):
                return
        pytest.fail("the status did not change")


def environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GATEHOUSE_CONFIG", "NO_COLOR", "FORCE_COLOR", "TERM")
    }
    return kept | SECRETS


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a gateway and its destination for all tests of this module."""
    folder = tmp_path_factory.mktemp("served")
    app = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=app.serve_forever).start()
    (folder / "gateway.yaml").write_text(CONFIG.format(url=f"http://127.0.0.1:{app.server_port}/events"))
    process = subprocess.Popen(
        [sys.executable, "-m", "gatehouse", "serve", "--log", "json"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = map(json.loads, process.stderr)
        started = next(line for line in lines if line["event"] == "gateway.started")
        reading = threading.Thread(target=lambda: [None for _ in process.stderr or ()])
        reading.start()
        yield Served(folder, process, started)
    finally:
        process.kill()
        process.wait(timeout=10)
        reading.join()
        process.stderr.close()
        app.shutdown()
        app.server_close()


def test_a_gateway_in_order_needs_nobody(served: Served) -> None:
    served.send("sale.created")
    served.until(lambda status: status["destinations"][0]["pending"] == 0)
    result = served.run("status")

    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("gatehouse 0.1.0, up ")
    assert "Problem" not in result.stdout
    assert [line.split()[:2] for line in lines if line.startswith(("shop", "billing"))] == [
        ["shop", "ready"],
        ["billing", "delivering"],
    ]
    assert f"store   {served.folder}/gatehouse.db, " in result.stdout
    assert lines[-1] == "Nothing needs an operator."


def test_what_needs_an_operator_comes_first_with_the_next_command(served: Served) -> None:
    served.get_into_trouble()
    config = served.folder / "gateway.yaml"
    before = config.read_text()
    config.write_text(before.replace("billing: {", "billing: {speed: 3, "))
    served.process.send_signal(signal.SIGHUP)
    served.until(lambda status: not status["reload"]["successful"])
    result = served.run("status")

    assert result.returncode == 1
    shown = result.stdout
    assert (
        "Problem: destination billing has 1 dead letter\nTry: gatehouse dead --destination billing" in shown
    )
    assert "Problem: the last reload failed; the previous config is in use: " in shown
    assert "speed" in shown
    assert shown.index("Problem: ") < shown.index("last accepted")
    assert "\x1b" not in shown
    on_terminal = served.on_a_terminal("status")
    assert "\x1b[31mProblem: destination billing" in on_terminal
    assert "\x1b" not in served.on_a_terminal("status", NO_COLOR="1")
    config.write_text(before)
    assert served.run("reload").returncode == 0
    assert served.status()["reload"]["successful"]


def test_the_answer_of_the_api_can_be_printed(served: Served) -> None:
    served.get_into_trouble()
    result = served.run("status", "--json")

    status = json.loads(result.stdout)
    assert result.returncode == 1
    (source,), (destination,) = status["sources"], status["destinations"]
    assert (source["ready"], source["refused_last_hour"]) == (True, 1)
    assert source["last_accepted"] is not None
    assert source["last_refused"]["reason"] == "wrong_signature"
    assert (destination["name"], destination["dead"], destination["oldest_pending"]) == ("billing", 1, None)
    assert (status["store"]["kind"], status["store"]["available"]) == ("sqlite", True)
    assert json.loads(served.run("sources", "--json").stdout)["sources"] == [source]
    listed = json.loads(served.run("destinations", "--json").stdout)["destinations"]
    assert listed == [destination]


def test_sources_and_destinations_are_tables(served: Served) -> None:
    served.get_into_trouble()
    head, row = served.run("sources").stdout.splitlines()
    columns = ["source", "path", "provider", "verified by", "state", "last accepted"]
    assert re.split(r"  +", head) == [*columns, "refused in the last hour"]
    assert row.split()[:3] == ["shop", "/webhooks/shop", "mando"]
    head, row = served.run("destinations").stdout.splitlines()
    columns = ["destination", "url", "format", "at once", "state", "pending", "oldest pending", "dead"]
    assert re.split(r"  +", head) == columns
    assert row.split()[0] == "billing"
    assert row.split()[2:] == ["cloudevents", "16", "delivering", "0", "-", "1"]


def test_refused_requests_are_listed_with_what_to_check(served: Served) -> None:
    served.get_into_trouble()
    lines = served.run("rejected", "--source", "shop").stdout.splitlines()
    identifier, *facts = lines[0].split("  ")

    assert facts[1:] == ["shop", "wrong_signature", "from 127.0.0.1"]
    assert facts[0].endswith(" ago")
    assert lines[1].startswith(" - ")
    shown = served.run("rejected", identifier).stdout
    assert shown.startswith("Refused: wrong_signature\n")
    assert f"Request {identifier} to the source shop" in shown
    assert json.loads(served.run("rejected", identifier, "--json").stdout)["id"] == identifier
    assert served.run("rejected", identifier, "--source", "shop").returncode == 2
    missing = served.run("rejected", "01JD")
    assert missing.returncode == 1
    assert "Error: no refused request has this id" in missing.stderr


@pytest.mark.parametrize("command", ["status", "sources", "destinations", "rejected"])
def test_a_wrong_token_is_an_error_with_a_hint(served: Served, command: str) -> None:
    result = served.run(command, TOKEN="another-token-of-some-length")

    assert (result.returncode, result.stdout) == (1, "")
    assert f"Error: {served.operator} answered 401" in result.stderr
    assert "Try: use the running gateway's operator.token" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(["status"], ["sources"], ["destinations"], ["rejected"], ["events"], ["dead"], ["audit"]),
        *(["retry", "--all", "--dry-run"], ["resume", "billing"]),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_asks_the_gateway_imports_little(served: Served, words: list[str]) -> None:
    asked = [*words, "--operator", served.operator]
    look = (
        "import sys\n"
        "from gatehouse.cli import main\n"
        f"try: main({asked!r}, standalone_mode=False)\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", look],
        cwd=served.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert result.stdout
    assert result.stderr == "[]\n"


def test_the_commands_that_read_the_stream_import_little() -> None:
    look = (
        "import sys\n"
        "from gatehouse.cli import access, following, listen, local_app, tail\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout == "[]\n"


def test_without_a_gateway_every_command_says_so(served: Served) -> None:
    for command in ("status", "sources", "destinations", "rejected"):
        result = subprocess.run(
            [sys.executable, "-m", "gatehouse", command, "--operator", "http://127.0.0.1:9"],
            cwd=served.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (result.returncode, result.stdout) == (1, "")
        assert "Error: no answer from http://127.0.0.1:9: Connection refused" in result.stderr
        assert "Try: start the gateway" in result.stderr


def test_the_store_is_backed_up_while_the_gateway_runs(served: Served) -> None:
    def back_up(*words: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "gatehouse", "store", "backup", *words],
            cwd=served.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    served.send("sale.stored")
    made = back_up("copy.db")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{served.folder}/gatehouse.db is copied to copy.db (")
    with closing(sqlite3.connect(f"file:{served.folder}/copy.db?mode=ro&immutable=1", uri=True)) as copy:
        types = {kind for (kind,) in copy.execute("SELECT type FROM events")}
    assert "sale.stored" in types
    again = back_up("copy.db")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "Error: copy.db already exists\nTry: name a file that does not exist yet\n"
    other = json.loads(back_up("other.db", "--json").stdout)
    assert other["bytes"] == (served.folder / "other.db").stat().st_size
    assert served.status()["store"]["available"]


def test_a_postgresql_store_is_left_to_pg_dump(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    store = "store: {url: postgresql://user@db/gatehouse, password: env:SECRET}\n"
    config.write_text(store + CONFIG.format(url="http://127.0.0.1:1/"))
    result = subprocess.run(
        [sys.executable, "-m", "gatehouse", "store", "backup", str(tmp_path / "copy"), "-c", str(config)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert "back it up with pg_dump" in result.stderr
    assert not (tmp_path / "copy").exists()
