"""The command line as a whole: help, errors, completion."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from gatehouse import __version__
from gatehouse.cli import COMMANDS, main, route
from gatehouse.errors import GatewayError


def test_help_lists_every_command_with_one_line() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert f"  {name} " in result.stdout
        assert entry.summary in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_within_80_columns(name: str) -> None:
    result = CliRunner().invoke(main, [name, "-h"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name} ")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_version_is_shown() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"gatehouse, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["nope"], ["check", "--nope"], ["route", "one"], ["serve", "extra"]])
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_an_error_shows_its_message_and_what_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _failing(monkeypatch, GatewayError("it rains", hint="an umbrella"))
    assert (result.exit_code, result.stderr) == (1, "Error: it rains\nTry: an umbrella\n")
    result = _failing(monkeypatch, GatewayError("it rains"))
    assert (result.exit_code, result.stderr) == (1, "Error: it rains\n")


def test_an_operating_system_error_is_printed_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some.file")
    result = _failing(monkeypatch, full)
    assert (result.exit_code, result.stderr) == (1, "Error: some.file: No space left on device\n")


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> click.testing.Result:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(route, "route", fail)
    return CliRunner().invoke(main, ["route"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_GATEHOUSE_COMPLETE={shell}_complete" in result.stdout


def test_completion_uses_the_current_shell() -> None:
    result = CliRunner(env={"SHELL": "/usr/bin/fish"}).invoke(main, ["completion"])
    assert "_GATEHOUSE_COMPLETE=fish_complete" in result.stdout


def test_completion_asks_for_a_shell_if_the_current_one_is_not_supported() -> None:
    result = CliRunner(env={"SHELL": "/bin/tcsh"}).invoke(main, ["completion"])
    assert result.exit_code == 2
    assert "one of: bash, zsh, fish" in result.stderr


def _completed(*words: str, incomplete: str = "") -> list[str]:
    shell = BashComplete(main, {}, "gatehouse", "_GATEHOUSE_COMPLETE")
    return [item.value for item in shell.get_completions(list(words), incomplete)]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a config with two sources, and change to its directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gateway.yaml"
    source = "{provider: mando, secrets: env:S}"
    file.write_text(f"sources:\n  shop: {source}\n  store: {source}\n")
    return file


@pytest.mark.parametrize("command", ["route", "sign", "send"])
def test_a_source_is_completed_from_the_config(config: Path, command: str) -> None:
    assert _completed(command) == ["shop", "store"]
    assert _completed(command, incomplete="sh") == ["shop"]


def test_a_source_is_completed_from_the_config_of_the_option(config: Path) -> None:
    other = config.rename(config.with_name("other.yaml"))
    assert _completed("send") == []
    assert _completed("send", "-c", str(other)) == ["shop", "store"]


def test_nothing_is_completed_from_a_config_that_does_not_load(config: Path) -> None:
    config.write_text("sources: 3")
    assert _completed("send") == []


def test_commands_and_providers_are_completed() -> None:
    assert _completed(incomplete="se") == ["serve", "send", "secret"]
    assert _completed("providers", incomplete="mand") == ["mandato", "mando", "mandrill"]
