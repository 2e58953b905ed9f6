"""The commands `events` and `dead`: list what a running gateway has stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import (
    complete_event,
    config_option,
    filter_options,
    json_option,
    load_config,
    operator_option,
    page_options,
)
from gatehouse.cli.output import last_outcome, page, table, to_seconds, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.cli.options import Filters

_EVENT_COLUMNS = {
    "id": "id",
    "received_at": "received",
    "source": "source",
    "type": "type",
    "subject": "subject",
    "summary": "deliveries",
}
_DEAD_COLUMNS = {
    "id": "id",
    "dead_since": "dead since",
    "type": "type",
    "attempts": "attempts",
    "outcome": "last outcome",
}
_ATTEMPT_COLUMNS = {
    "number": "attempt",
    "ended_at": "time",
    "reason": "reason",
    "http_status": "status",
    "took": "duration",
    "told": "error or reply",
}


@click.command("events")
@click.argument("event_id", metavar="[ID]", required=False, shell_complete=complete_event)
@filter_options(destination=False)
@click.option(
    "--status",
    type=click.Choice(["pending", "delivered", "dead"]),
    help="Only events with a delivery of this status.",
)
@page_options
@json_option
@operator_option
@config_option
def events(
    event_id: str | None,
    filters: Filters,
    status: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the events of a running gateway, newest first. With ID, show that event, its attempts and body.

    Times are in UTC.
    """
    import asyncio
    from urllib.parse import quote

    from gatehouse.cli.operator_client import ask, with_query

    if event_id is not None and (filters.given() or status or cursor):
        raise click.UsageError("an ID can't be combined with filters")
    loaded = load_config(config)
    if event_id is not None:
        event = asyncio.run(ask(loaded, f"/api/v1/events/{quote(event_id, safe='')}", operator))
        click.echo(json.dumps(event, indent=2) if as_json else "\n".join(_event(event)))
        return
    path = with_query("/api/v1/events", limit=limit, status=status, cursor=cursor, **filters.given())
    answer = asyncio.run(ask(loaded, path, operator))
    if not answer["events"]:
        filters.check(loaded)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_events(answer)))


@click.command("dead")
@filter_options(destination=True)
@page_options
@json_option
@operator_option
@config_option
def dead(
    filters: Filters,
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the dead letters of a running gateway, newest first.

    A dead letter is a delivery that the gateway has given up on. gatehouse retry delivers it again. Times are
    in UTC.
    """
    import asyncio

    from gatehouse.cli.operator_client import ask, with_query

    loaded = load_config(config)
    path = with_query("/api/v1/deliveries", status="dead", limit=limit, cursor=cursor, **filters.given())
    answer = asyncio.run(ask(loaded, path, operator))
    if not answer["deliveries"]:
        filters.check(loaded)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_dead_letters(answer)))


def _events(answer: dict[str, Any]) -> Iterator[str]:
    rows = [
        row | {"received_at": to_seconds(row["received"]), "summary": _counts(row["deliveries"])}
        for row in answer["events"]
    ]
    uncut = ("id", "received_at", "summary")
    return page(rows, _EVENT_COLUMNS, answer["cursor"], uncut=uncut, empty="no events")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "none"


def _dead_letters(answer: dict[str, Any]) -> Iterator[str]:
    rows = [
        row | {"dead_since": to_seconds(row["updated"]), "outcome": last_outcome(row)}
        for row in answer["deliveries"]
    ]
    uncut = ("id", "dead_since", "outcome")
    return page(rows, _DEAD_COLUMNS, answer["cursor"], uncut=uncut, empty="no dead letters")


def _event(event: dict[str, Any]) -> Iterator[str]:
    names = ("id", "source", "provider", "external_id", "type", "time", "received", "subject", "account")
    for name in (*names, "content_type"):
        if event[name] is not None:
            yield f"{name:<13}{visible(event[name])}"
    for name, value in event["headers"]:
        yield f"header       {visible(name)}: {visible(value)}"
    for delivery in event["deliveries"]:
        yield f"delivery     {_delivery(delivery)}"
        yield from _attempts(delivery["attempts"])
    yield ""
    # The body keeps its lines and tabs; other control characters are escaped.
    body = event["body"] if "body" in event else f"in base64: {event['body_base64']}"
    yield "\n".join("\t".join(map(visible, line.split("\t"))) for line in body.split("\n"))


def _delivery(delivery: dict[str, Any]) -> str:
    number = delivery["attempts_made"]
    parts = [delivery["status"], "1 attempt" if number == 1 else f"{number} attempts"]
    if delivery["last_reason"]:
        parts.append(last_outcome(delivery))
    if delivery["due"]:
        parts.append(f"due {delivery['due']}")
    return f"{visible(delivery['destination'])}: {', '.join(parts)}"


def _attempts(attempts: list[dict[str, Any]]) -> Iterator[str]:
    """Show the attempts of a delivery as a table, with the first line of each error or reply."""
    rows = [
        attempt
        | {
            "ended_at": to_seconds(attempt["at"]),
            "took": None if attempt["duration_ms"] is None else f"{attempt['duration_ms']} ms",
            "told": _first_line(attempt["error"] or attempt["reply"]),
        }
        for attempt in attempts
    ]
    if rows:
        uncut = ("number", "ended_at", "reason", "http_status", "took")
        yield from table(rows, _ATTEMPT_COLUMNS, uncut=uncut, indent="  ")


def _first_line(text: str | None) -> str | None:
    lines = (line.strip() for line in (text or "").splitlines())
    return next((line for line in lines if line), None)
