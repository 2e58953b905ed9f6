"""`gatehouse demo`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

_PORT = click.IntRange(0, 65535)


@click.command("demo")
@click.option(
    "--once/--stay",
    default=None,
    help="Exit when everything is shown (0 when all was as it should be, else 1), or run until Ctrl-C."
    "  [default: --stay on a terminal, else --once]",
)
@click.option("--port", type=_PORT, metavar="N", help="Port for providers.  [default: 8080, or a free one]")
@click.option(
    "--operator-port", type=_PORT, metavar="N", help="Port for operators.  [default: 9090, or a free one]"
)
@click.option("--no-color", is_flag=True, help="Plain text.  [env: NO_COLOR]")
def command(once: bool | None, port: int | None, operator_port: int | None, no_color: bool) -> None:
    """Run the real gateway with an app behind it, and show what it does with good and bad requests.

    Five providers send their documented examples, signed as each of them signs. It all happens on this
    machine, in a directory of its own that is removed at the end, with secrets made for the occasion.
    """
    import asyncio

    import uvloop

    from gatehouse.demo.run import Options, run
    from gatehouse.demo.screen import Screen

    once = not sys.stdout.isatty() if once is None else once
    options = Options(once=once, server_port=port, operator_port=operator_port, program=_program())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        as_it_should_be = runner.run(run(options, Screen(color=not no_color)))
    sys.exit(0 if as_it_should_be else 1)


def _program() -> str:
    """Write how this program was called, so that a suggested command works when it is pasted."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m gatehouse"
    found = shutil.which("gatehouse")
    if found and called.exists() and Path(found).samefile(called):
        return "gatehouse"
    return shlex.quote(os.path.relpath(called))
