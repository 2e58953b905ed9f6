"""`gatehouse events`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.completing import complete_event
from gatehouse.cli.options import config_option, load_config
from gatehouse.cli.records import filter_options, json_option, listed, operator_option, path, second, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.cli.records import Filters

_COLUMNS = {
    "id": "id",
    "at": "received",
    "source": "source",
    "type": "type",
    "subject": "subject",
    "shown": "deliveries",
}


@click.command("events")
@click.argument("event_id", metavar="[ID]", required=False, shell_complete=complete_event)
@filter_options(destination=False)
@click.option(
    "--status",
    type=click.Choice(["pending", "delivered", "dead"]),
    help="With at least one delivery of this status.",
)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many.")
@click.option("--cursor", metavar="TEXT", help="Go on where the last list ended.")
@json_option
@operator_option
@config_option
def command(
    event_id: str | None,
    filters: Filters,
    status: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the events of a running gateway, the newest first; or show the one with this ID, with its body.

    Times are UTC.
    """
    import asyncio
    from urllib.parse import quote

    from gatehouse.cli.operator_client import ask

    if event_id is not None and (filters.given() or status or cursor):
        raise click.UsageError("an ID stands alone, without filters")
    loaded = load_config(config)
    if event_id is not None:
        found = asyncio.run(ask(loaded, f"/api/v1/events/{quote(event_id, safe='')}", operator))
        click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_one(found)))
        return
    asked = path("/api/v1/events", limit=limit, status=status, cursor=cursor, **filters.given())
    page = asyncio.run(ask(loaded, asked, operator))
    if not page["events"]:
        filters.check(loaded)
    click.echo(json.dumps(page, indent=2) if as_json else "\n".join(_list(page)))


def _list(page: dict[str, Any]) -> Iterator[str]:
    rows = [
        row | {"at": second(row["received"]), "shown": _deliveries(row["deliveries"])}
        for row in page["events"]
    ]
    return listed(rows, _COLUMNS, page["cursor"], whole=("id", "at", "shown"), nothing="no events")


def _deliveries(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "none"


def _one(event: dict[str, Any]) -> Iterator[str]:
    names = ("id", "source", "provider", "external_id", "type", "time", "received", "subject", "account")
    for name in (*names, "content_type"):
        if event[name] is not None:
            yield f"{name:<13}{visible(event[name])}"
    for name, value in event["headers"]:
        yield f"header       {visible(name)}: {visible(value)}"
    for delivery in event["deliveries"]:
        yield f"delivery     {_delivery(delivery)}"
    yield ""
    # The body as it is, line by line, but for what it would do to a terminal.
    body = event["body"] if "body" in event else f"in base64: {event['body_base64']}"
    yield "\n".join("\t".join(map(visible, line.split("\t"))) for line in body.split("\n"))


def _delivery(delivery: dict[str, Any]) -> str:
    number = delivery["attempts"]
    parts = [delivery["status"], "1 attempt" if number == 1 else f"{number} attempts"]
    if delivery["last_reason"]:
        status = f" {delivery['last_http_status']}" if delivery["last_http_status"] else ""
        parts.append(delivery["last_reason"] + status)
    if delivery["due"]:
        parts.append(f"due {delivery['due']}")
    return f"{visible(delivery['destination'])}: {', '.join(parts)}"
