"""The command line. Each command is a function in one of the modules here, imported when it is called.

To add a command, write the function, and add an entry with its module and summary to `COMMANDS`.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any, NamedTuple

import click

from gatehouse import __version__
from gatehouse.errors import ConfigError, GatewayError, Problem
from gatehouse.telemetry.terminal import wants_color


class Entry(NamedTuple):
    """Where a command is, and its line in `--help`."""

    #: A module of `gatehouse.cli`, which has a function with the command's name.
    module: str
    summary: str


#: The commands in the order of `--help`.
COMMANDS = {
    "serve": Entry("serve", "Run the gateway."),
    "reload": Entry("control", "Reload the config file of a running gateway."),
    "check": Entry("check", "Check a config file and report its problems."),
    "demo": Entry("serve", "Run a real gateway with a sample app, and show what it does."),
    "providers": Entry("reference", "List the provider presets, or print one."),
    "schema": Entry("reference", "Print the config's JSON Schema, or the API's OpenAPI document."),
    "route": Entry("route", "Show where an event would go, and why."),
    "sign": Entry("send", "Print a signed request as a curl command."),
    "send": Entry("send", "Sign a request and send it."),
    "verify": Entry("verify", "Verify a saved request, or explain why it is refused."),
    "status": Entry("status", "Show the state of a running gateway, and its problems."),
    "sources": Entry("states", "List the sources of a running gateway."),
    "destinations": Entry("states", "List the destinations of a running gateway."),
    "rejected": Entry("rejected", "List the requests that a running gateway refused."),
    "tail": Entry("tail", "Show what a running gateway does, while it does it."),
    "listen": Entry("listen", "Forward what a running gateway accepts to a local app."),
    "events": Entry("events", "List the events of a running gateway, or show one."),
    "dead": Entry("events", "List the dead letters of a running gateway."),
    "retry": Entry("retry", "Retry dead letters."),
    "replay": Entry("retry", "Deliver events again."),
    "discard": Entry("discard", "Discard dead letters that nobody needs."),
    "pause": Entry("control", "Pause delivery to destinations."),
    "resume": Entry("control", "Resume delivery to destinations."),
    "audit": Entry("audit", "List what operators changed."),
    "store": Entry("store", "Show the store, back it up, or migrate it."),
    "secret": Entry("secret", "Make a secret for the config."),
    "completion": Entry("reference", "Print the completion script for a shell."),
}


class _Commands(click.Group):
    """Imports the module of a command when the command is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"gatehouse.cli.{entry.module}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest commands for an unknown one."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib

        nearest = difflib.get_close_matches(name, COMMANDS, n=2)
        suggestion = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise click.UsageError(f"No such command {name!r}.{suggestion}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            show_error(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click ends quietly
                raise
            show_error(GatewayError(_describe(error)))
        sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatehouse")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Gatehouse is a self-hosted webhook gateway.

    It receives webhooks from any provider, verifies and deduplicates them, stores them durably, and forwards
    them to your apps.
    """
    ctx.color = wants_color(os.environ)


def show_error(error: GatewayError) -> None:
    """Print an error and its hint on stderr."""
    if isinstance(error, ConfigError):
        _show_problems(error.problems)
        return
    _print("Error", error.message)
    if error.hint:
        _print("Try", error.hint)


def _show_problems(problems: tuple[Problem, ...]) -> None:
    first = problems[0]
    if not (first.line or first.path):  # the file as a whole: there is no place in it to fix
        show_error(GatewayError(f"{first.file}: {first.message}", hint=first.hint))
        return
    for problem in problems:
        _print("Error", str(problem))
    import shlex

    what = "it" if len(problems) == 1 else f"these {len(problems)} problems"
    _print("Try", f"fix {what}, then run gatehouse check -c {shlex.quote(first.file)}")


def _print(label: str, text: str) -> None:
    """Print on stderr. The text may be a server's: no terminal acts on the characters in it."""
    from gatehouse.cli.output import visible

    lines = "\n".join(map(visible, text.split("\n")))
    click.echo(f"{label}: {lines}", err=True)


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
