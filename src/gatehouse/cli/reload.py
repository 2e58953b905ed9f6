"""`gatehouse reload`."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config
from gatehouse.cli.records import json_option, operator_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.load import LoadedConfig

_PARTS = ("sources", "destinations", "routes")


@click.command("reload")
@json_option
@operator_option
@config_option
def command(as_json: bool, operator: str | None, config: str | None) -> None:
    """Have a running gateway read its config file again, and say what changed.

    All of it is taken into use or, with a problem in it, nothing: then the problems are printed and the
    gateway goes on as it was. The gateway reads the file that it was started with; when that is not the file
    named here, it is an error.

    Exits 0 when the config is in use and 1 when it is not.
    """
    import asyncio

    from gatehouse.cli.operator_client import post
    from gatehouse.errors import GatewayError

    loaded = load_config(config)
    answer = asyncio.run(post(loaded, "/-/reload", operator))
    if not isinstance(answer, dict) or answer.get("status") != "reloaded":
        raise GatewayError("what answered is no operator listener of a gateway", hint="--operator URL")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _show(answer)
    if not _is_read(loaded, answer):
        own, theirs = _path(loaded), answer["file"]
        hint = f"gatehouse reload -c {shlex.quote(theirs)}; serve -c names the file that a gateway reads"
        raise GatewayError(f"the gateway reads {theirs}, and not {own}", hint=hint)


def _path(loaded: LoadedConfig) -> Path:
    return loaded.directory / Path(loaded.document.file).name


def _show(answer: dict[str, Any]) -> None:
    for line in _changes(answer):
        click.echo(line)
    for key in answer["needs_restart"]:
        click.echo(f"Warning: {key} stays as it was until a restart", err=True)
    for line in answer["not_ready"]:
        click.echo(f"Warning: {line}", err=True)
    for source, keys in answer.get("keys_lost", {}).items():
        message = f"source {source}: events known only by {', '.join(keys)} may be accepted again"
        click.echo(f"Warning: {message}", err=True)


def _is_read(loaded: LoadedConfig, answer: dict[str, Any]) -> bool:
    """Tell whether the gateway read the file that this command was given.

    On another machine, or in a container, it has another path there: what it holds is compared then.
    """
    if not answer.get("file"):
        return True  # an older gateway does not say
    try:
        return _path(loaded).samefile(answer["file"])
    except OSError:
        return hashlib.sha256(loaded.text).hexdigest() == str(answer.get("sha256"))


def _changes(answer: dict[str, Any]) -> Iterator[str]:
    lines = [
        f"{part}: {how} {name}" for part in _PARTS for how, names in answer[part].items() for name in names
    ]
    lines += [f"settings: changed {key}" for key in answer["settings"]]
    yield "reloaded" if lines else "reloaded: nothing changed"
    yield from (f"  {line}" for line in lines)
