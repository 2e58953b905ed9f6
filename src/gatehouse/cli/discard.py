"""The command `discard`: gives up dead letters for good."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.access import find_access
from gatehouse.cli.operator_client import change, fetch, with_query
from gatehouse.cli.options import complete_dead, config_option, filter_options, json_option, operator_option
from gatehouse.cli.output import visible

if TYPE_CHECKING:
    from gatehouse.cli.access import Access
    from gatehouse.cli.options import Filters

_PAGE = 500


@click.command("discard")
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_dead)
@filter_options
@click.option("--note", metavar="TEXT", required=True, help="Why. It stays with the deliveries.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@operator_option
@config_option
def discard(
    delivery_ids: tuple[str, ...],
    filters: Filters,
    *,
    note: str,
    yes: bool,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Discard dead letters: those with these IDs, or all that match the filters.

    gatehouse dead lists the IDs. Discarded deliveries are no longer dead letters, and are not retried.
    gatehouse replay can still deliver their events. With filters, the command counts the dead letters, and
    asks.
    """
    given = filters.given()
    if bool(delivery_ids) == bool(given):
        raise click.UsageError("name either IDs or filters")
    access = find_access(config, operator)
    body: dict[str, Any] = {"ids": list(delivery_ids)} if delivery_ids else {"filter": given}
    if given and not yes and not _confirm(access, given):
        filters.check(config)
        _print({}, as_json=as_json)
        return
    counts: dict[str, int] = {}
    done = False
    while not done:
        answer = change("POST", access, "/api/v1/deliveries/discard", body | {"note": note})
        for name, number in answer["discarded"].items():
            counts[name] = counts.get(name, 0) + number
        done = answer["done"]
    _print(counts, as_json=as_json)


def _confirm(access: Access, given: dict[str, str]) -> bool:
    """Ask before dead letters are discarded. Returns False if there are none."""
    number, cursor, done = 0, None, False
    while not done:
        path = with_query("/api/v1/deliveries", status="dead", limit=_PAGE, cursor=cursor, **given)
        page = fetch(access, path)
        number, cursor = number + len(page["deliveries"]), page["cursor"]
        done = cursor is None
    if not number:
        return False
    what = "1 dead letter" if number == 1 else f"{number:,} dead letters"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{what} match; nothing was discarded. Add --yes to discard them")
    click.confirm(f"Discard {what}?", abort=True, err=True)
    return True


def _print(counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"discarded": counts}, indent=2))
        return
    if not counts:
        click.echo("no dead letters match")
    for name, number in sorted(counts.items()):
        click.echo(f"{visible(name)}  {number} discarded")
