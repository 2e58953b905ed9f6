"""`gatehouse completion`."""

from __future__ import annotations

import os
from pathlib import Path

import click

_SHELLS = ("bash", "zsh", "fish")
#: The variable through which the script asks what could come next.
_VARIABLE = "_GATEHOUSE_COMPLETE"


# \b keeps click from folding the lines of a paragraph.
_HELP = """Print the completion script for a shell (default: the one that $SHELL names).

\b
Enable it for this session:
  bash:  eval "$(gatehouse completion bash)"
  zsh:   eval "$(gatehouse completion zsh)"
  fish:  gatehouse completion fish | source

For every session, put that line into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.

Commands, options, provider names, the sources and destinations of your config, and ids out of the running
gateway are completed.
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def command(shell: str | None) -> None:
    """Print the completion script."""
    from click.shell_completion import get_completion_class

    from gatehouse.cli import main

    shell = shell or _own_shell()
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script(main, {}, "gatehouse", _VARIABLE).source())


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"which shell? one of: {', '.join(_SHELLS)}")
    return name
