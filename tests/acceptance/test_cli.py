"""The program as an operator runs it: exit codes, errors with hints, and a gateway that serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECRET = "s3cr3t-of-at-least-16-bytes"
CONFIG = """\
server: {listen: "127.0.0.1:0"}
operator: {listen: "127.0.0.1:0"}
sources:
  mandato: {provider: mandato, secrets: env:MANDATO}
  hisab: {provider: hisab, secrets: env:MANDATO}
"""
#: Modules that `--help` must not import.
HEAVY = (
    *(
        "aiohttp",
        "asyncio",
        "msgspec",
        "prometheus_client",
        "pydantic",
        "rich",
        "structlog",
        "uvloop",
        "yaml",
    ),
)
#: Modules that a gateway with a plain config must not import: libraries, what they bring, and parts of
#: Gatehouse that it does not use. Each takes memory in every gateway, and time in every start.
NOT_SERVED = (
    *("rich", "pygments", "jinja2", "cryptography", "asyncpg", "multiprocessing"),
    *("gatehouse.demo", "gatehouse.reference", "gatehouse.samples", "gatehouse.store.postgres"),
    *("gatehouse.operator.page.page", "gatehouse.diagnosis.diagnose", "gatehouse.workers.supervisor"),
    *("gatehouse.verify.asymmetric", "gatehouse.verify.jws", "gatehouse.verify.jwt"),
)

Finished = subprocess.CompletedProcess[str]
Run = Callable[..., Finished]


@pytest.fixture
def environment() -> dict[str, str]:
    """Give the processes a secret, and no config through the environment."""
    return {name: value for name, value in os.environ.items() if name != "GATEHOUSE_CONFIG"} | {
        "MANDATO": SECRET
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Return a function that runs `python -m gatehouse` in a directory with a config."""
    (tmp_path / "gateway.yaml").write_text(CONFIG)

    def call(*arguments: str, **variables: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "gatehouse", *arguments],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return call


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `serve` until the block ends. Yields the process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gatehouse", "serve", "--log", "json"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = map(json.loads, process.stderr)
        started = next(line for line in lines if line["event"] == "gateway.started")
        yield process, f"http://{started['listen']}"
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stderr.close()


def assert_error(result: Finished, message: str, hint: str = "") -> None:
    assert result.returncode == 1, result.stderr
    assert f"Error: {message}" in result.stderr
    assert f"Try: {hint}" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_module_and_the_script_are_the_same_program(run: Run, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("gatehouse")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert run("--version").stdout == shown.stdout


def test_help_does_not_wait_for_heavy_imports() -> None:
    look = (
        "import sys\n"
        "from gatehouse.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=30, check=True
    )
    assert "Commands:" in result.stdout
    assert result.stderr == "[]\n"


def test_the_log_does_without_rich_which_stays_available_to_commands() -> None:
    look = "import sys, gatehouse.telemetry.log; print('rich' in sys.modules); import rich.console"
    result = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout == "False\n"


def test_a_gateway_with_a_plain_config_imports_and_reads_only_what_it_uses(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    serve = (
        "import sys\n"
        "from gatehouse.cli import main\n"
        "try: main(['serve', '--log', 'json'])\n"
        "except SystemExit: pass\n"
        "from gatehouse.network import authorities\n"
        f"print([name for name in {NOT_SERVED!r} if name in sys.modules], len(authorities._waiting))\n"
    )
    command = [sys.executable, "-c", serve]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stdout
        assert any("gateway.started" in line for line in process.stderr)
        process.terminate()
        # The context that verifies certificates still waits for the authorities.
        assert process.stdout.read() == "[] 1\n"


def test_check_exits_0_for_a_valid_config_and_1_for_an_invalid_one(run: Run, tmp_path: Path) -> None:
    assert run("check").returncode == 0
    assert run("check", MANDATO="").returncode == 1
    (tmp_path / "gateway.yaml").write_text("sources: 3\n")
    assert_error(
        run("check"), "gateway.yaml:1: sources: ", "fix it, then run gatehouse check -c gateway.yaml"
    )


def test_the_config_comes_from_the_option_the_environment_or_the_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").rename(tmp_path / "other.yaml")
    assert_error(
        run("check"), "gateway.yaml: can't be read", "name one with -c FILE, or set GATEHOUSE_CONFIG"
    )
    assert "'other.yaml'  SUCCESS" in run("check", "-c", "other.yaml").stdout
    assert "'other.yaml'  SUCCESS" in run("check", GATEHOUSE_CONFIG="other.yaml").stdout
    assert run("check", "-c", "nowhere.yaml", GATEHOUSE_CONFIG="other.yaml").returncode == 1


def test_usage_errors_exit_2(run: Run) -> None:
    for arguments in (("no-such-command",), ("serve", "--no-such-option"), ("sign",)):
        assert run(*arguments).returncode == 2


@pytest.mark.parametrize("command", ["serve", "check", "route", "sign", "send"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "gateway.yaml: can't be read: No such file or directory"),
        ("sources: [", "gateway.yaml:1: not YAML"),
        ("\0", "gateway.yaml"),
        ("", "gateway.yaml"),
        ("sources: {a: {provider: nobody}}", 'gateway.yaml:1: sources.a.provider: unknown provider "nobody"'),
    ],
)
def test_an_invalid_config_is_an_error_for_every_command(
    run: Run, tmp_path: Path, command: str, content: str | None, message: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    arguments = {"serve": (), "check": (), "route": ("mandato", "x")}.get(command, ("mandato",))
    assert_error(run(command, *arguments), message)


def test_a_config_that_is_a_directory_is_an_error(run: Run) -> None:
    assert_error(run("serve", "-c", "."), ".: can't be read: Is a directory")


def test_serve_answers_what_send_sends_and_ends_with_0_on_sigterm(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    with serving(tmp_path, environment) as (process, url):
        sent = run("send", "mandato", "--url", url, "--duplicate")
        assert sent.returncode == 0, sent.stderr
        accepted, duplicate = sent.stdout.splitlines()
        assert accepted.startswith('200  {"status":"accepted","id":"')
        assert duplicate.startswith('200  {"status":"duplicate","id":"')
        assert_error(run("send", "mandato", "--url", url, MANDATO="x" * 32), "1 of 1 answers are not 2xx")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def test_fresh_events_of_a_provider_without_ids_in_its_body_are_new_events(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Hisab's signed bytes are a dedupe key: three equal requests within a second would be one event."""
    with serving(tmp_path, environment) as (_, url):
        sent = run("send", "hisab", "--url", url, "--count", "3", "--now", str(int(time.time())))
        assert sent.stdout.count('"accepted"') == 3


def test_a_store_in_use_is_an_error_that_says_so(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    with serving(tmp_path, environment):
        result = run("serve")
    assert result.returncode == 1
    assert "in use by another gatehouse" in result.stderr
    assert "Try: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("listener", ["server", "operator"])
def test_a_port_in_use_is_an_error_that_says_which(run: Run, tmp_path: Path, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        old = f'{listener}: {{listen: "127.0.0.1:0"}}'
        new = f'{listener}: {{listen: "{address}"}}'
        (tmp_path / "gateway.yaml").write_text(CONFIG.replace(old, new))
        assert_error(run("serve"), f"{listener}.listen: can't listen on {address}")


def test_a_store_in_a_directory_that_is_not_there_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG + 'store: {url: "sqlite:///nowhere/gatehouse.db"}\n')
    assert_error(run("serve"), "the store can't be opened")


def test_serve_with_strict_refuses_to_start_without_a_secret(run: Run) -> None:
    result = run("serve", "--strict", MANDATO="")
    assert_error(
        result, "source mandato: env:MANDATO is empty", "set these secrets, or start without --strict"
    )
