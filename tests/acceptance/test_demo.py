"""The demo as a new user runs it: it shows real results, and removes its files."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from pages import Seen

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "gatehouse", "demo", "--port", "0", "--operator-port", "0")
TIMEOUT = 45
#: The end of what the demo shows before it waits.
READY = "(Ctrl-C ends the demo)"
#: What a demo that stays offers to look at, and words of the screen that it leads to.
ON_THE_PAGE = {
    "refused requests, and why": r"mandato The signature matches if the JSON in the body is written in",
    "a dead letter, and what ledger replied": r"replied: {.*The ledger has no sale.*} Dead letter",
    "the open circuit breaker of archive": r"archive breaker open\b.* next probe in (9|10) min",
    "when mailer gets the next attempt": r"HTTP 429 .* Next attempt \S+ \S+ UTC \(in (29|30) min\)",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Place the demo's directory where the test can see whether it is removed."""
    return os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def once(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the demo once."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*DEMO, "--once", *arguments],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    return run


class Demo:
    """A demo that keeps running."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.output = ""

    def read_until(self, words: str) -> str:
        """Read until these words appear, and return all output so far."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while words not in self.output:
            ready, _, _ = select.select([descriptor], [], [], TIMEOUT)
            more = os.read(descriptor, 65536) if ready else b""
            assert more, f"no {words!r} in {self.output}"
            self.output += more.decode()
        return self.output


@contextmanager
def staying(environment: dict[str, str]) -> Iterator[Demo]:
    with subprocess.Popen([*DEMO, "--stay"], env=environment, stdout=subprocess.PIPE) as process:
        try:
            yield Demo(process)
        finally:
            process.kill()


def test_the_demo_shows_what_happened_to_each_request_and_exits_0(
    once: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    result = once()
    assert (result.returncode, result.stderr) == (0, "")
    rows = {
        words[0]: line
        for line in result.stdout.splitlines()
        if (words := line.split()) and "200 accepted" in line
    }
    refused = re.compile(r"\S+ +200 accepted +200 duplicate +401 refused +401 refused +\d+\.\d ms *")
    replayed = re.compile(r"\S+ +200 accepted +200 duplicate +401 refused +200 duplicate +\d+\.\d ms *")
    timeless = re.compile(r"\S+ +200 accepted +200 duplicate +401 refused +— +\d+\.\d ms *")
    for provider, verdicts in (
        ("e-invoice.be", timeless),
        ("getpeppr", refused),
        ("Hisab", refused),
        ("Mandato", replayed),
        ("Mando", timeless),
    ):
        assert verdicts.fullmatch(rows[provider]), rows[provider]
    assert result.stdout.count("signature ok") == 5
    assert "All as expected: 18 answers, and 5 events at the app, each once." in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_shows_an_event_with_every_digit_and_the_metrics_that_changed(
    once: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    shown = once().stdout
    assert '    "type": "sale.created",\n' in shown
    assert '      "total": 45.50,\n' in shown
    assert re.search(r"^  webhook-id: [0-9A-Z]{26}$", shown, re.MULTILINE)
    assert "  gatehouse-attempt: 1\n" in shown
    for series, delta in (
        ('gatehouse_requests_total{outcome="accepted"}', "+5"),
        ('gatehouse_requests_total{outcome="duplicate"}', "+6"),
        ('gatehouse_requests_total{outcome="unauthorized"}', "+7"),
        ('gatehouse_verification_failures_total{reason="wrong_signature"}', "+5"),
        ('gatehouse_verification_failures_total{reason="stale_timestamp"}', "+2"),
        ('gatehouse_deliveries_total{destination="app",result="delivered"}', "+5"),
        ('gatehouse_deliveries_pending{destination="app"}', "0"),
    ):
        assert re.search(rf"^  {re.escape(series)} +{re.escape(delta)}$", shown, re.MULTILINE), series


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_demo_without_a_terminal_is_plain_text_within_the_width(
    once: Callable[..., subprocess.CompletedProcess[str]], columns: str
) -> None:
    result = once(COLUMNS=columns)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= int(columns)


def test_a_port_that_is_taken_is_an_error_with_a_hint(
    once: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = once("--port", str(port))
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: port {port} on 127.0.0.1 is taken\nTry: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_stays_stops_cleanly(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with staying(environment) as demo:
        shown = demo.read_until(READY)
        demo.process.send_signal(number)
        assert demo.process.wait(timeout=TIMEOUT) == 0
    ports = [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", shown)]
    assert ports
    for port in ports:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_demo_with_an_unexpected_result_names_it_and_exits_1(environment: dict[str, str]) -> None:
    """The forged request is not changed here, so the gateway correctly accepts it."""
    spoiled = (
        "import gatehouse.demo.cases\n"
        "from gatehouse.cli import main\n"
        "gatehouse.demo.cases.tampered = lambda body: body\n"
        "main(['demo', '--once', '--port', '0', '--operator-port', '0'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", spoiled],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.returncode == 1
    assert "not 401 refused" in result.stdout
    assert "Not as expected:\n" in result.stdout
    assert "  Mandato, forged: 200 duplicate instead of 401 refused\n" in result.stdout


def test_the_suggested_commands_work_from_another_shell(environment: dict[str, str]) -> None:
    with staying(environment) as demo:
        shown = demo.read_until(READY)
        commands = re.findall(r"^  (.* (?:send|sign) .*)$", shown, re.MULTILINE)
        assert len(commands) == 3
        for command in commands:
            result = subprocess.run(
                shlex.split(command), capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            assert result.returncode == 0, result.stderr
        demo.read_until("invoice.rejected from /webhooks/mandato")


@pytest.mark.case("F-58")
def test_the_demo_exits_by_itself_without_a_terminal(environment: dict[str, str]) -> None:
    result = subprocess.run(
        DEMO, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "All as expected" in result.stdout
    assert "Ctrl-C" not in result.stdout
    again = f"{shlex.join(DEMO[:3])} demo --stay"
    assert result.stdout.endswith(f"\nThe demo has ended. To look at the operator page, run: {again}\n")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy the files that `make` reads into a fresh clone without `.venv`."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    (clone / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "constraints.txt", clone / "deploy")
    return clone


def plan(clone: Path, verb: str) -> list[str]:
    """Return what pip would install for a target of make."""
    told = subprocess.run(["make", "-n", verb], cwd=clone, capture_output=True, text=True, check=True).stdout
    return re.findall(r"constraints\.txt (-e \S+)", told)


@pytest.mark.case("F-58")
def test_make_demo_installs_gatehouse_and_make_test_adds_the_test_tools(clone: Path) -> None:
    assert plan(clone, "demo") == ["-e ."]
    assert plan(clone, "test") == ["-e '.[dev,judges]'"]
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".demo").touch()
    assert plan(clone, "demo") == []
    assert plan(clone, "test") == ["-e '.[dev,judges]'"]
    (clone / ".venv" / ".installed").touch()
    assert plan(clone, "demo") == plan(clone, "test") == []
    assert plan(clone, ".venv/.bench") == ["-e '.[dev,bench]'"]


def look(address: str) -> str:
    """Return the words of a screen of the operator page."""
    asked = Request(address, headers={"Accept": "text/html"})  # noqa: S310 - http
    with urlopen(asked, timeout=TIMEOUT) as answer:  # noqa: S310 - likewise
        return Seen(answer.status, answer.read().decode(), None).words


@contextmanager
def made_on_a_terminal(clone: Path, environment: dict[str, str]) -> Iterator[Demo]:
    """Run `make demo` on a pseudo-terminal, which passes on what is written to the standard input."""
    programs = clone / ".venv" / "bin"
    programs.mkdir(parents=True)
    (clone / ".venv" / ".demo").touch()
    (programs / "gatehouse").write_text(f"#!/bin/sh\nexec {shlex.join(DEMO)}\n")
    (programs / "gatehouse").chmod(0o755)
    on_a_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(['make', 'demo'])))"
    with subprocess.Popen(
        [sys.executable, "-c", on_a_terminal],
        cwd=clone,
        env=environment | {"TERM": "dumb"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Demo(process)
        finally:
            # This closes the terminal, so the demo ends too.
            process.kill()


@pytest.mark.case("F-58")
def test_make_demo_on_a_terminal_leaves_an_operator_page_to_look_at_until_ctrl_c(
    clone: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with made_on_a_terminal(clone, environment) as demo:
        lines = demo.read_until(READY).rstrip().split("\r\n")
        address = re.fullmatch(r"The operator page: (http://127\.0\.0\.1:\d+)/ \(Ctrl-C .*\)", lines[-1])
        assert address is not None, lines[-3:]
        page = address.group(1)
        listed = "\n".join(lines).partition("The operator page shows")[2]
        places = dict(re.findall(rf"^  (.+?) +({re.escape(page)}/\S*)$", listed, re.MULTILINE))
        screens = {what: look(place) for what, place in places.items()}
        for what, words in ON_THE_PAGE.items():
            assert re.search(words, screens[what]), screens[what]
        assert "1 dead letter of ledger." in look(f"{page}/")
        assert "ledger 1 dead letter" in look(f"{page}/dead")
        states = look(f"{page}/destinations")
        assert re.search(r"\bapp delivering 0 none 0 .* archive breaker open", states), states

        stdin = demo.process.stdin
        assert stdin is not None
        stdin.write(b"\x03")
        stdin.flush()
        assert demo.process.wait(timeout=TIMEOUT) == 0
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", int(page.rpartition(":")[2]))) != 0
    assert list(tmp_path.glob("gatehouse-demo-*")) == []


def test_make_demo_ends_when_its_terminal_is_closed(
    clone: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with made_on_a_terminal(clone, environment) as demo:
        demo.read_until(READY)
        assert list(tmp_path.glob("gatehouse-demo-*")) != []
    deadline = time.monotonic() + TIMEOUT
    while list(tmp_path.glob("gatehouse-demo-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # only its files show that it is still there


def test_a_demo_that_is_stopped_too_early_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    with staying(environment) as demo:
        demo.read_until("Gatehouse ")
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(timeout=TIMEOUT) == 0
    assert list(tmp_path.iterdir()) == []
