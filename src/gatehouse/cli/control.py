"""The commands `reload`, `pause` and `resume`: change a running gateway."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import (
    config_option,
    destination_arguments,
    json_option,
    known_names,
    load_config,
    operator_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.load import LoadedConfig

_PARTS = ("sources", "destinations", "routes")


@click.command("reload")
@click.option("--dry-run", is_flag=True, help="Only check the file, and list what would change.")
@json_option
@operator_option
@config_option
def reload(dry_run: bool, as_json: bool, operator: str | None, config: str | None) -> None:
    """Reload the config file of a running gateway, and list the changes.

    The gateway applies the whole file or nothing: if the file has problems, they are printed, and the gateway
    keeps its config. The gateway reads the file that it was started with. It is an error if the file named
    here is another one. With --dry-run, the gateway checks the file as for a reload, and changes nothing.

    Exits 0 if the config is in use (with --dry-run: if a reload would use it), and 1 if not.
    """
    from gatehouse.cli.access import access_of
    from gatehouse.cli.operator_client import change
    from gatehouse.errors import GatewayError

    # The file is checked here first: the gateway would refuse it too.
    loaded = load_config(config)
    body = {"dry_run": True} if dry_run else {}
    answer = change("POST", access_of(loaded, operator), "/-/reload", body)
    if answer.get("status") != ("checked" if dry_run else "reloaded"):
        raise GatewayError(
            "the server that answered is not the operator listener of a gateway",
            hint="pass the URL of the gateway's operator listener with --operator http://host:port",
        )
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _print_changes(answer)
    if not _is_same_file(loaded, answer):
        own, theirs = _path(loaded), answer["file"]
        hint = (
            f"run gatehouse reload -c {shlex.quote(theirs)}, or start the gateway with the other file: "
            "gatehouse serve -c FILE"
        )
        raise GatewayError(f"the gateway reads {theirs}, not {own}", hint=hint)


@click.command("pause")
@destination_arguments
@json_option
@operator_option
@config_option
def pause(destinations: tuple[str, ...], as_json: bool, operator: str | None, config: str | None) -> None:
    """Pause delivery to destinations.

    Deliveries wait in the store until gatehouse resume. A pause outlasts a restart.
    """
    _set_paused(destinations, "pause", operator, config, as_json=as_json)


@click.command("resume")
@destination_arguments
@json_option
@operator_option
@config_option
def resume(destinations: tuple[str, ...], as_json: bool, operator: str | None, config: str | None) -> None:
    """Resume delivery to paused destinations.

    Deliveries that waited go first.
    """
    _set_paused(destinations, "resume", operator, config, as_json=as_json)


def _path(loaded: LoadedConfig) -> Path:
    return loaded.directory / Path(loaded.document.file).name


def _is_same_file(loaded: LoadedConfig, answer: dict[str, Any]) -> bool:
    """Tell whether the gateway read the file that the command names.

    A gateway on another machine or in a container has another path: then the contents are compared.
    """
    if not answer.get("file"):
        return True  # an older gateway does not report its file
    try:
        return _path(loaded).samefile(answer["file"])
    except OSError:
        return hashlib.sha256(loaded.text).hexdigest() == str(answer.get("sha256"))


def _print_changes(answer: dict[str, Any]) -> None:
    for line in _changes(answer):
        click.echo(line)
    for key in answer["needs_restart"]:
        click.echo(f"Warning: {key} changes only after a restart", err=True)
    for line in answer["not_ready"]:
        click.echo(f"Warning: {line}", err=True)
    for source, keys in answer.get("keys_lost", {}).items():
        message = f"source {source}: events known only by {', '.join(keys)} may be accepted again"
        click.echo(f"Warning: {message}", err=True)


def _changes(answer: dict[str, Any]) -> Iterator[str]:
    lines = [
        f"{part}: {change} {name}"
        for part in _PARTS
        for change, names in answer[part].items()
        for name in names
    ]
    lines += [f"settings: changed {key}" for key in answer["settings"]]
    if answer.get("dry_run"):
        yield "a reload would change:" if lines else "a reload would change nothing"
    else:
        yield "reloaded" if lines else "reloaded: nothing changed"
    yield from (f"  {line}" for line in lines)


def _set_paused(
    destinations: tuple[str, ...], action: str, operator: str | None, config: str | None, *, as_json: bool
) -> None:
    """Pause or resume each destination, and print its state afterwards."""
    from urllib.parse import quote

    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import RefusedError, change, for_each

    access = find_access(config, operator)

    def set_state(name: str) -> None:
        try:
            answer = change("POST", access, f"/api/v1/destinations/{quote(name, safe='')}/{action}", {})
        except RefusedError as error:
            error.hint = _unknown_hint(name, config) or error.hint
            raise
        click.echo(json.dumps(answer) if as_json else f"{name}  {_state(answer)}")

    for_each(destinations, set_state)


def _unknown_hint(name: str, config: str | None) -> str | None:
    from gatehouse.errors import ConfigError

    try:
        known = load_config(config).config.destinations
    except ConfigError:
        return None  # with --operator, there may be no config here
    if name in known:
        return "run gatehouse reload: the config file has this destination, the running gateway does not"
    return known_names(name, known)


def _state(destination: dict[str, Any]) -> str:
    state = "paused" if destination["paused"] else "delivering"
    if destination["not_ready"] and not destination["paused"]:
        state = f"not ready ({destination['not_ready']})"
    return f"{state}, {destination['pending']} pending, {destination['dead']} dead"
