"""Every `gatehouse` command in the documentation exists, with the options that the documentation gives it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from gatehouse.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: A command in backticks, or at the start of a line of a block, where an indent and a prompt may come first.
COMMAND = re.compile(
    r"`gatehouse (?P<inline>[a-z][^`]*)`|^ *(?:\$ )?gatehouse (?P<line>[a-z].*)$", re.MULTILINE
)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def commands_in(text: str) -> list[str]:
    """Return the commands that a page shows, without `gatehouse` itself."""
    fenced = "\n".join(FENCE.findall(text))
    prose = FENCE.sub("", text)
    blocks = "\n".join(line for line in prose.splitlines() if line.startswith("    "))
    inline = [found["inline"] for found in COMMAND.finditer(prose) if found["inline"]]
    return inline + [found["line"] for found in COMMAND.finditer(f"{fenced}\n{blocks}") if found["line"]]


def unknown_in(shown: str) -> str | None:
    """Return the command or option that does not exist, if there is one."""
    # A block may explain a command after several spaces, and go on after it in the shell.
    words = shlex.split(re.split(r" {3,}| [|&>#]", shown)[0].replace("'", "").replace('"', ""))
    context = click.Context(main, **main.context_settings)
    command: click.Command | None = main.get_command(context, words[0])
    if command is None:
        return words[0]
    rest = words[1:]
    if isinstance(command, click.Group) and rest and rest[0].isalpha():
        command = command.get_command(context, rest.pop(0))
        if command is None:
            return shown
    options = {
        name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)
    }
    return next((word for word in rest if word.startswith("-") and word.strip("[]") not in options), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    wrong = {shown: unknown for shown in commands_in(page.read_text()) if (unknown := unknown_in(shown))}

    assert wrong == {}


def test_commands_are_found_in_prose_and_in_both_kinds_of_blocks() -> None:
    page = (
        "Run `gatehouse check -c x`.\n\n    $ gatehouse dead --limit 1\n\n```bash\ngatehouse serve &\n```\n"
    )

    assert commands_in(page) == ["check -c x", "serve &", "dead --limit 1"]
    assert sum(len(commands_in(page.read_text())) for page in PAGES) > 3 * len(COMMANDS)


@pytest.mark.parametrize(
    ("shown", "unknown"),
    [
        ("sned shop", "sned"),
        ("store inof", "store inof"),
        ("check --fast", "--fast"),
        ("dead   lists them", None),
    ],
)
def test_a_command_or_option_that_does_not_exist_is_named(shown: str, unknown: str | None) -> None:
    assert unknown_in(shown) == unknown
