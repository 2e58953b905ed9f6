"""`gatehouse retry`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.completing import complete_dead
from gatehouse.cli.options import config_option, load_config
from gatehouse.cli.records import add, filter_options, json_option, one_by_one, operator_option

if TYPE_CHECKING:
    from gatehouse.cli.records import Filters
    from gatehouse.config.load import LoadedConfig

_WHERE = "/api/v1/deliveries/retry"


@click.command("retry")
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_dead)
@filter_options(destination=True)
@click.option("--all", "every", is_flag=True, help="Every dead letter, when no filter is given.")
@click.option("--dry-run", is_flag=True, help="Count what would be tried again, and change nothing.")
@json_option
@operator_option
@config_option
def command(
    delivery_ids: tuple[str, ...],
    filters: Filters,
    every: bool,
    dry_run: bool,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Try dead letters again: those with these IDs, as `gatehouse dead` lists them, or all that fit filters.

    They are due at once, at the destination's own rate. What is pending or delivered is left alone, so that
    asking twice is asking once.
    """
    import asyncio

    given = filters.given()
    if delivery_ids and (given or every or dry_run):
        raise click.UsageError("IDs stand alone, without filters, --all and --dry-run")
    if not (delivery_ids or given or every):
        raise click.UsageError("name IDs or filters; --all tries every dead letter again")
    if given and every:
        raise click.UsageError("--all is for when no filter is given")
    loaded = load_config(config)
    if delivery_ids:
        asyncio.run(_each(loaded, delivery_ids, operator, as_json=as_json))
        return
    change: dict[str, Any] = {**given} or {"all": True}
    counted = asyncio.run((_count if dry_run else _all)(loaded, change, operator))
    if not counted:
        filters.check(loaded)
    _report(counted, as_json=as_json, dry_run=dry_run)


async def _each(
    loaded: LoadedConfig, delivery_ids: tuple[str, ...], operator: str | None, *, as_json: bool
) -> None:
    from urllib.parse import quote

    from gatehouse.cli.operator_client import post

    async def one(delivery_id: str) -> None:
        where = f"/api/v1/deliveries/{quote(delivery_id, safe=':')}/retry"
        answer = await post(loaded, where, operator, {})
        said = "tried again" if answer["retried"] else "not dead: left alone"
        click.echo(json.dumps({"id": delivery_id} | answer) if as_json else f"{delivery_id}  {said}")

    await one_by_one(delivery_ids, one)


async def _count(loaded: LoadedConfig, given: dict[str, Any], operator: str | None) -> dict[str, int]:
    from gatehouse.cli.operator_client import post

    counted: dict[str, int] = {}
    asked = given | {"dry_run": True}
    while True:
        answer = await post(loaded, _WHERE, operator, asked)
        add(counted, answer["would_retry"])
        if answer["cursor"] is None:
            break
        asked["cursor"] = answer["cursor"]
        _show_progress(sum(counted.values()))
    _show_progress(None)
    return counted


async def _all(loaded: LoadedConfig, given: dict[str, Any], operator: str | None) -> dict[str, int]:
    """Ask step by step, so that nobody waits long for the store, and say how far it is.

    What dies again meanwhile is not tried yet again: all steps are as of the time of the first.
    """
    from gatehouse.cli.operator_client import post

    counted: dict[str, int] = {}
    asked = dict(given)
    while True:
        answer = await post(loaded, _WHERE, operator, asked)
        add(counted, answer["retried"])
        if answer["done"]:
            break
        asked["as_of"] = answer["as_of"]
        _show_progress(sum(counted.values()))
    _show_progress(None)
    return counted


def _show_progress(number: int | None) -> None:
    """Say on a terminal how far it is, on a line of its own that goes away at the end."""
    if _is_watched():
        said = "" if number is None else f"{number} so far …"
        click.echo(f"\r\x1b[K{said}", nl=False, err=True, color=True)


def _is_watched() -> bool:
    return sys.stderr.isatty()


def _report(counted: dict[str, int], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        click.echo(json.dumps({"would_retry" if dry_run else "retried": counted}, indent=2))
        return
    if not counted:
        click.echo("no dead letters fit")
    for name, number in sorted(counted.items()):
        click.echo(f"{name}  {number} " + ("would be tried again" if dry_run else "due again"))
