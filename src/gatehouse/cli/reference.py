"""The commands `providers`, `schema` and `completion`: print what Gatehouse ships with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import unknown_name

if TYPE_CHECKING:
    from rich.table import Table

#: A width that no row of the table reaches.
_UNLIMITED_WIDTH = 400

_SHELLS = ("bash", "zsh", "fish")
#: The variable through which a completion script asks the program for completions.
_COMPLETION_VARIABLE = "_GATEHOUSE_COMPLETE"


# \b keeps click from joining the lines of a paragraph.
_SCHEMA_HELP = """Print the JSON Schema of the config file, for editors and CI.

\b
  gatehouse schema > gateway.schema.json

Then put this line first in the config file:

\b
  # yaml-language-server: $schema=gateway.schema.json

The schema accepts every config that Gatehouse loads. gatehouse check finds more mistakes than the schema.
"""

_COMPLETION_HELP = """Print the completion script for a shell (default: the shell in $SHELL).

\b
Enable it for this session:
  bash:  eval "$(gatehouse completion bash)"
  zsh:   eval "$(gatehouse completion zsh)"
  fish:  gatehouse completion fish | source

To enable it for every session, add that line to ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.

The script completes commands, options, providers, the sources and destinations of your config, and ids from
the running gateway.
"""


def _complete_provider(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from gatehouse import providers as presets

    return [name for name in presets.names() if name.startswith(incomplete)]


@click.command("providers")
@click.argument("name", required=False, shell_complete=_complete_provider)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def providers(name: str | None, as_json: bool) -> None:
    """List the provider presets, or print the preset called NAME as it is shipped.

    A source with `provider: NAME` starts from the preset, and can override any part of it.
    """
    from gatehouse import providers as presets

    if name is not None and name not in presets.names():
        error = unknown_name("provider", name, presets.names())
        error.hint = f"{error.hint}; gatehouse providers lists them"
        raise error
    if as_json:
        _print_json(name)
    elif name is None:
        _print_table(_table())
        click.echo("\nTo see a preset with its setup steps, events and samples: gatehouse providers NAME")
    else:
        click.echo(presets.text(name), nl=False)


@click.command("schema", help=_SCHEMA_HELP)
@click.option("--openapi", is_flag=True, help="Print the operator API instead, as OpenAPI 3.1.")
def schema(openapi: bool) -> None:
    """Print the schema, or the OpenAPI document."""
    if openapi:
        from gatehouse.reference.openapi import text
    else:
        from gatehouse.reference.schema import text

    click.echo(text(), nl=False)


@click.command("completion", help=_COMPLETION_HELP)
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script."""
    from click.shell_completion import get_completion_class

    from gatehouse.cli import main

    shell = shell or _current_shell()
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(script(main, {}, "gatehouse", _COMPLETION_VARIABLE).source())


def _print_json(name: str | None) -> None:
    """Print the columns of the table, with durations in seconds; or one preset as it is shipped."""
    from gatehouse import providers as presets
    from gatehouse.config import describe
    from gatehouse.config.presets import raw_preset, shipped_preset

    if name is not None:
        click.echo(json.dumps({"name": name, **raw_preset(name)}, indent=2, ensure_ascii=False))
        return
    rows = [
        {
            "name": one,
            "title": preset.title,
            "scheme": describe.scheme(preset),
            "answer_deadline": preset.answer_deadline,
            "retry_horizon": preset.retry_horizon,
        }
        for one in presets.names()
        for preset in (shipped_preset(one),)
    ]
    click.echo(json.dumps({"providers": rows}, indent=2, ensure_ascii=False))


def _table() -> Table:
    """Make the table: one row per preset."""
    from rich.table import Table
    from rich.text import Text

    from gatehouse import providers as presets
    from gatehouse.config import describe
    from gatehouse.config.presets import shipped_preset

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("preset", no_wrap=True)
    table.add_column(
        "provider",
        overflow="ellipsis",
        no_wrap=True,
        style="dim",
        max_width=24 if sys.stdout.isatty() else None,
    )
    table.add_column("scheme", no_wrap=True, min_width=11)
    table.add_column("answer\nwithin", no_wrap=True, min_width=6)
    table.add_column("retries\nfor", no_wrap=True, min_width=7)
    for name in presets.names():
        preset = shipped_preset(name)
        table.add_row(
            Text(name, style="bold"),
            preset.title,
            describe.scheme(preset),
            describe.duration(preset.answer_deadline),
            describe.duration(preset.retry_horizon),
        )
    return table


def _print_table(table: Table) -> None:
    from rich.console import Console

    from gatehouse.telemetry.terminal import wants_color

    # Without a color system rich writes no escape sequences, not even for bold.
    is_plain = wants_color(os.environ) is False
    console = Console(highlight=False, color_system=None if is_plain else "auto")
    # In a pipe another program reads the table, so no column is shortened.
    console.print(table, width=None if console.is_terminal else _UNLIMITED_WIDTH)


def _current_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"name a shell, one of: {', '.join(_SHELLS)}")
    return name
