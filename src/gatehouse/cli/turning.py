"""What `pause` and `resume` share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import complete_destination, load_config
from gatehouse.cli.records import one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def destination_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the names of destinations, which a shell completes from the config."""
    return click.argument(
        "destinations", metavar="DESTINATION...", nargs=-1, required=True, shell_complete=complete_destination
    )(command)


def turn(
    destinations: tuple[str, ...], verb: str, operator: str | None, config: str | None, *, as_json: bool
) -> None:
    """Ask a running gateway to pause or resume each of them, and say how it is then."""
    import asyncio
    from urllib.parse import quote

    from gatehouse.cli.operator_client import RefusedError, post

    loaded = load_config(config)

    async def one(name: str) -> None:
        try:
            answer = await post(loaded, f"/api/v1/destinations/{quote(name, safe='')}/{verb}", operator, {})
        except RefusedError as error:
            error.hint = _hint(name, loaded.config.destinations)
            raise
        click.echo(json.dumps(answer) if as_json else f"{name}  {_said(answer)}")

    asyncio.run(one_by_one(destinations, one))


def _hint(name: str, known: Collection[str]) -> str:
    from gatehouse.config.hints import expected

    if name in known:
        return "it is in the config file: gatehouse reload takes that into use"
    return expected(name, known)


def _said(destination: dict[str, Any]) -> str:
    state = "paused" if destination["paused"] else "delivering"
    if destination["not_ready"] and not destination["paused"]:
        state = f"not ready ({destination['not_ready']})"
    return f"{state}, {destination['pending']} pending, {destination['dead']} dead"
