"""`gatehouse reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTS = ("sources", "destinations", "routes")


@click.command("reload")
@click.option(
    "--operator", metavar="URL", help="The gateway's operator listener.  [default: as in the config]"
)
@config_option
def command(operator: str | None, config: str | None) -> None:
    """Have a running gateway read its config file again, and say what changed.

    All of it is taken into use or, with a problem in it, nothing: then the problems are printed and the
    gateway goes on as it was. Exits 0 when the config is in use and 1 when it is not.
    """
    import asyncio

    from gatehouse.cli.operator_client import post
    from gatehouse.errors import GatewayError

    answer = asyncio.run(post(load_config(config), "/-/reload", operator))
    if not isinstance(answer, dict) or answer.get("status") != "reloaded":
        raise GatewayError("what answered is no operator listener of a gateway", hint="--operator URL")
    for line in _changes(answer):
        click.echo(line)
    for key in answer["needs_restart"]:
        click.echo(f"Warning: {key} stays as it was until a restart", err=True)
    for line in answer["not_ready"]:
        click.echo(f"Warning: {line}", err=True)
    for source, keys in answer.get("keys_lost", {}).items():
        message = f"source {source}: events known only by {', '.join(keys)} may be accepted again"
        click.echo(f"Warning: {message}", err=True)


def _changes(answer: dict[str, Any]) -> Iterator[str]:
    lines = [
        f"{part}: {how} {name}" for part in _PARTS for how, names in answer[part].items() for name in names
    ]
    lines += [f"settings: changed {key}" for key in answer["settings"]]
    yield "reloaded" if lines else "reloaded: nothing changed"
    yield from (f"  {line}" for line in lines)
