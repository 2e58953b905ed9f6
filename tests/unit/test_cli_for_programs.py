"""The command line in shells, pipes and programs: colors, misspelled names, completion, JSON."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gatehouse import providers
from gatehouse.cli import COMMANDS, main
from gatehouse.telemetry import log
from gatehouse.telemetry.terminal import is_colored

CONFIG = """\
sources:
  shop: {provider: mando, secrets: env:S}
destinations:
  billing: {url: "http://127.0.0.1:1/"}
  ledger: {url: "http://127.0.0.1:1/"}
routes: [{from: shop, to: [billing, ledger]}]
"""
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command beside the config."""
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIG)
    return lambda *words: CliRunner(env={"S": "s3cr3t-of-at-least-16-bytes"}).invoke(main, words)


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("environment", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"CLICOLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
    ],
)
def test_the_environment_decides_about_colors(
    environment: dict[str, str], terminal: bool, expected: bool
) -> None:
    assert is_colored(is_terminal=terminal, environment=environment) is expected


def on_a_terminal(words: list[str], folder: Path, **environment: str) -> str:
    """Run a command on a separate terminal, and return its output."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")
    }
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatehouse", *words],
        cwd=folder,
        env=kept | {"S": "s3cr3t-of-at-least-16-bytes", "TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
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


@pytest.mark.case("F-54")
@pytest.mark.parametrize("words", [["check"], ["providers"], ["serve", "-c", "nothing-of-this-name.yaml"]])
def test_a_terminal_gets_colors_unless_they_are_turned_off(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    assert "\x1b[" not in on_a_terminal(words, tmp_path, NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(words, tmp_path, TERM="dumb")
    assert "\x1b[" not in on_a_terminal(words, tmp_path, CLICOLOR="0")
    if words == ["check"]:
        assert "\x1b[32mSUCCESS" in on_a_terminal(words, tmp_path)


@pytest.mark.case("F-54")
def test_log_lines_on_a_terminal_are_plain_if_colors_are_turned_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    line = log._text_renderer(Terminal())(None, "info", {"event": "gateway.started", "listen": "x"})  # type: ignore[arg-type]
    assert "\x1b" not in str(line)


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["sned", "shop"], "Did you mean send?"),
        (["chekc"], "Did you mean check?"),
        (["evnts"], "Did you mean events?"),
        (["check", "--jsn"], "--json"),
        (["send", "shpo"], 'did you mean "shop"?'),
        (["route", "shpo", "sale.created"], 'did you mean "shop"?'),
        (["providers", "strpe"], 'did you mean "stripe"?'),
    ],
)
def test_a_misspelled_name_gets_a_suggestion(run: Run, words: list[str], meant: str) -> None:
    result = run(*words)

    assert result.exit_code != 0
    assert meant in result.stderr


@pytest.mark.case("F-54")
def test_check_takes_the_file_as_an_argument(run: Run) -> None:
    assert run("check", "gateway.yaml").exit_code == 0
    assert run("check", "gateway.yaml", "-c", "gateway.yaml").exit_code == 0
    missing = run("check", "no.yaml")
    assert missing.exit_code == 1
    assert "no.yaml: can't be read" in missing.stderr
    assert run("check", "gateway.yaml", "-c", "no.yaml").exit_code == 2


def completed(run: Run, words: str) -> list[str]:
    typed = shlex.split(f"gatehouse {words} ''" if words.endswith(" ") else f"gatehouse {words}")
    environment = {
        "_GATEHOUSE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["gatehouse", *typed[1:]]),
        "COMP_CWORD": str(len(typed) - 1),
    }
    result = CliRunner(env=environment).invoke(
        main, prog_name="gatehouse", complete_var="_GATEHOUSE_COMPLETE"
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


@pytest.mark.case("F-54")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("events --source s", ["shop"]),
        ("dead --destination b", ["billing"]),
        ("retry --destination l", ["ledger"]),
        ("replay 01J --to b", ["billing"]),
        ("pause b", ["billing"]),
        ("providers mand", ["mandato", "mando", "mandrill"]),
        ("send s", ["shop"]),
    ],
)
def test_names_from_the_config_are_completed(run: Run, words: str, expected: list[str]) -> None:
    assert completed(run, words) == expected


@pytest.mark.case("F-54")
def test_without_a_running_gateway_no_ids_are_completed_and_nothing_is_printed(run: Run) -> None:
    Path("gateway.yaml").write_text('operator: {listen: "127.0.0.1:1"}\n' + CONFIG)

    assert completed(run, "events 01J") == []


def answer(run: Run, *words: str) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.case("F-54")
def test_results_can_be_printed_as_json(run: Run) -> None:
    assert answer(run, "route", "shop", "sale.created") == {
        "source": "shop",
        "type": "sale.created",
        "destinations": [
            {"name": name, "routes": [{"path": "routes.0", "file": "gateway.yaml", "line": 6, "when": {}}]}
            for name in ("billing", "ledger")
        ],
    }
    listed = answer(run, "providers")["providers"]
    assert [one["name"] for one in listed] == list(providers.names())
    assert {"name", "title", "scheme", "answer_deadline", "retry_horizon"} == listed[0].keys()
    assert answer(run, "providers", "stripe")["verify"]["type"] == "hmac"
    signed = answer(run, "sign", "shop")
    assert (signed["method"], signed["url"]) == ("POST", "http://127.0.0.1:8080/webhooks/shop")
    assert json.loads(signed["body"])
    assert any(name.lower().endswith("signature") for name, _ in signed["headers"])
    checked = answer(run, "check")
    assert (checked["file"], checked["ok"], checked["problems"]) == ("gateway.yaml", True, [])
    assert {"store", "before", "after"} == answer(run, "store", "migrate").keys()


@pytest.mark.case("F-54")
def test_the_problems_of_a_config_can_be_printed_as_json(run: Run) -> None:
    Path("gateway.yaml").write_text(CONFIG.replace("env:S", "env:UNSET") + "  - {from: shpo, to: billing}\n")
    Path("gateway.yaml").write_text(CONFIG.replace("mando", "mandoo"))
    result = run("check", "--json")
    (problem,) = json.loads(result.stdout)["problems"]
    assert result.exit_code == 1
    assert (problem["line"], problem["path"]) == (2, "sources.shop.provider")
    assert 'did you mean "mando"' in problem["hint"]


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in ("serve", "demo", "schema", "completion")]
)
def test_every_command_with_a_result_can_print_json(run: Run, name: str) -> None:
    words = [name, *{"store": ["info"], "secret": ["new"]}.get(name, [])]
    assert re.search(r"--json ", run(*words, "--help").stdout)
