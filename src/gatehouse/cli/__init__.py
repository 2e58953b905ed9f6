"""The command line: one module per command, imported when it is used, so that `--help` is quick."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import sys
from typing import Any

import click

from gatehouse import __version__
from gatehouse.errors import ConfigError, GatewayError, Problem
from gatehouse.telemetry.terminal import wants_color

#: Commands in the order of `--help`, each with its one line there.
COMMANDS = {
    "serve": "Run the gateway.",
    "reload": "Have a running gateway read its config file again.",
    "check": "Check a config file and say what is wrong with it.",
    "demo": "Run the real gateway with a destination and show what it does.",
    "providers": "List the presets, or print one.",
    "schema": "Print the JSON Schema of the config file.",
    "route": "Show where an event type of a source goes.",
    "sign": "Print a signed request as a curl command.",
    "send": "Sign a request and send it.",
    "verify": "Say whether a saved request verifies, and if not, why.",
    "events": "List the events of a running gateway, or show one.",
    "dead": "List the dead letters of a running gateway.",
    "retry": "Try dead letters again.",
    "replay": "Deliver events again.",
    "pause": "Let destinations be.",
    "resume": "Deliver to destinations again.",
    "store": "Look at the store, bring it up to date, or move it to PostgreSQL.",
    "completion": "Print the completion script for a shell.",
}


class _Commands(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gatehouse.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say which command was probably meant by one that there is not."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=2)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"No such command {name!r}.{meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            show_error(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click ends quietly
                raise
            show_error(GatewayError(_os_error(error)))
        sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatehouse")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Gatehouse, the gatehouse for your webhooks.

    Verifies, deduplicates and stores what providers send, and forwards it to your apps.
    """
    ctx.color = wants_color(os.environ)


def show_error(error: GatewayError) -> None:
    """Print what is wrong and what to try, on stderr."""
    if isinstance(error, ConfigError):
        _show_problems(error.problems)
        return
    click.echo(f"Error: {error.message}", err=True)
    if error.hint:
        click.echo(f"Try: {error.hint}", err=True)


def _show_problems(problems: tuple[Problem, ...]) -> None:
    first = problems[0]
    if not (first.line or first.path):  # about the file as a whole: there is nothing inside it to mend
        show_error(GatewayError(f"{first.file}: {first.message}", hint=first.hint))
        return
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    what = "it" if len(problems) == 1 else f"these {len(problems)}"
    click.echo(f"Try: mend {what}, then gatehouse check -c {shlex.quote(first.file)}", err=True)


def _os_error(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
