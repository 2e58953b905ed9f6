"""`gatehouse providers`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import unknown

if TYPE_CHECKING:
    from rich.table import Table

#: Wider than any row.
_UNCUT = 400


def _complete_provider(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from gatehouse import providers

    return [name for name in providers.names() if name.startswith(incomplete)]


@click.command("providers")
@click.argument("name", required=False, shell_complete=_complete_provider)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the presets, or print the one called NAME as it is shipped.

    A source with `provider: NAME` starts from the preset and may override any part of it.
    """
    from gatehouse import providers

    if as_json:
        _print_json(name)
        return
    if name is None:
        _print(_table())
        click.echo("\nOne of them, with its setup steps, events and samples: gatehouse providers NAME")
        return
    _check(name)
    click.echo(providers.text(name), nl=False)


def _check(name: str) -> None:
    from gatehouse import providers

    if name not in providers.names():
        raise unknown("provider", name, providers.names())


def _print_json(name: str | None) -> None:
    """Print the list as the table has it, durations in seconds; or the preset as it is shipped."""
    import json

    from gatehouse import providers
    from gatehouse.config import describe
    from gatehouse.config.presets import raw_preset, shipped_preset

    if name is not None:
        _check(name)
        click.echo(json.dumps({"name": name, **raw_preset(name)}, indent=2, ensure_ascii=False))
        return
    listed = [
        {
            "name": one,
            "title": preset.title,
            "scheme": describe.scheme(preset),
            "answer_deadline": preset.answer_deadline,
            "retry_horizon": preset.retry_horizon,
        }
        for one in providers.names()
        for preset in (shipped_preset(one),)
    ]
    click.echo(json.dumps({"providers": listed}, indent=2, ensure_ascii=False))


def _table() -> Table:
    """One row per preset."""
    from rich.table import Table
    from rich.text import Text

    from gatehouse import providers
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
    for name in providers.names():
        preset = shipped_preset(name)
        table.add_row(
            Text(name, style="bold"),
            preset.title,
            describe.scheme(preset),
            describe.duration(preset.answer_deadline),
            describe.duration(preset.retry_horizon),
        )
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    from gatehouse.telemetry.terminal import wants_color

    # Without a colour system it writes no escapes at all, neither for bold.
    plain = wants_color(os.environ) is False
    console = Console(highlight=False, color_system=None if plain else "auto")
    # In a pipe no column is cut: another program reads it.
    console.print(table, width=None if console.is_terminal else _UNCUT)
