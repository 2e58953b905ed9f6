"""`gatehouse dead`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config
from gatehouse.cli.records import filter_options, json_option, listed, operator_option, path, second

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.cli.records import Filters

_COLUMNS = {
    "id": "id",
    "given_up": "given up",
    "type": "type",
    "attempts": "tried",
    "why": "because of",
}


@click.command("dead")
@filter_options(destination=True)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many.")
@click.option("--cursor", metavar="TEXT", help="Go on where the last list ended.")
@json_option
@operator_option
@config_option
def command(
    filters: Filters,
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the dead letters of a running gateway: deliveries that were given up, the newest first.

    gatehouse retry tries them again. Times are UTC.
    """
    import asyncio

    from gatehouse.cli.operator_client import ask

    loaded = load_config(config)
    asked = path("/api/v1/deliveries", status="dead", limit=limit, cursor=cursor, **filters.given())
    page = asyncio.run(ask(loaded, asked, operator))
    if not page["deliveries"]:
        filters.check(loaded)
    click.echo(json.dumps(page, indent=2) if as_json else "\n".join(_list(page)))


def _list(page: dict[str, Any]) -> Iterator[str]:
    rows = [row | {"given_up": second(row["updated"]), "why": _why(row)} for row in page["deliveries"]]
    return listed(rows, _COLUMNS, page["cursor"], whole=("id", "given_up", "why"), nothing="no dead letters")


def _why(row: dict[str, Any]) -> str:
    status = f" {row['last_http_status']}" if row["last_http_status"] else ""
    return f"{row['last_reason'] or 'unknown'}{status}"
