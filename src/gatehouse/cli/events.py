"""The commands `events` and `dead`: list what a running gateway has stored."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import (
    complete_event,
    config_option,
    event_filter_options,
    filter_options,
    json_option,
    operator_option,
    page_options,
)
from gatehouse.cli.output import last_outcome, page, print_answer, table, to_seconds, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.cli.access import Access
    from gatehouse.cli.options import EventFilters, Filters

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
    "meaning": "meaning",
}
_ATTEMPT_COLUMNS = {
    "number": "attempt",
    "ended_at": "time",
    "reason": "reason",
    "http_status": "status",
    "took": "duration",
    "told": "error or reply",
}


#: What an event's page shows in a line each, if it is known.
_FACTS = (
    *("id", "source", "provider", "external_id", "type", "time", "received", "verified", "stored"),
    *("subject", "account", "content_type"),
)


@click.command("events")
@click.argument("event_id", metavar="[ID]", required=False, shell_complete=complete_event)
@event_filter_options
@page_options
@json_option
@operator_option
@config_option
def events(
    event_id: str | None,
    filters: EventFilters,
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the events of a running gateway, newest first. With ID, show that event, its attempts and body.

    ID is the id of the event in the gateway, or the provider's id. Several events with the provider's id are
    listed. Times are in UTC.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.searching import search

    if event_id is not None and (filters.given() or cursor):
        raise click.UsageError("an ID can't be combined with filters")
    access = find_access(config, operator)
    if event_id is not None:
        _show_event(access, event_id, limit=limit, as_json=as_json)
        return
    answer, exit_code = search(access, filters.given(), limit=limit, cursor=cursor)
    if not answer["events"] and not exit_code:
        filters.check(config)
    print_answer(answer, _events, as_json=as_json)
    if exit_code:
        sys.exit(exit_code)


def _show_event(access: Access, given: str, *, limit: int, as_json: bool) -> None:
    from gatehouse.cli.searching import find

    event, answer = find(access, given, limit=limit)
    if event is None:
        print_answer(answer, _events, as_json=as_json)
    else:
        print_answer(event, _event, as_json=as_json)


@click.command("dead")
@filter_options
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

    A dead letter is a delivery that the gateway has given up on. gatehouse events ID shows the errors and
    replies of its attempts, and gatehouse retry delivers it again. Times are in UTC.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch, with_query

    access = find_access(config, operator)
    path = with_query("/api/v1/deliveries", status="dead", limit=limit, cursor=cursor, **filters.given())
    answer = fetch(access, path)
    if not answer["deliveries"]:
        filters.check(config)
    print_answer(answer, _dead_letters, as_json=as_json)


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
    from gatehouse.operator.page.reasons import explain

    rows = [
        row
        | {"dead_since": to_seconds(row["updated"]), "outcome": last_outcome(row)}
        | {"meaning": explain(row["last_reason"] or "", row["last_http_status"]).short or None}
        for row in answer["deliveries"]
    ]
    uncut = ("id", "dead_since", "outcome")
    return page(rows, _DEAD_COLUMNS, answer["cursor"], uncut=uncut, empty="no dead letters")


def _event(event: dict[str, Any]) -> Iterator[str]:
    facts = event | {"verified": _verified(event.get("verified")), "stored": event.get("stored")}
    for name in _FACTS:
        if facts[name] is not None:
            yield f"{name:<13}{visible(facts[name])}"
    for name, value in event["headers"]:
        yield f"header       {visible(name)}: {visible(value)}"
    for delivery in event["deliveries"]:
        yield f"delivery     {_delivery(delivery)}"
        yield from _attempts(delivery["attempts"])
    yield ""
    # The body keeps its lines and tabs; other control characters are escaped.
    body = event["body"] if "body" in event else f"in base64: {event['body_base64']}"
    yield "\n".join("\t".join(map(visible, line.split("\t"))) for line in body.split("\n"))


def _verified(verified: dict[str, str | None] | None) -> str | None:
    if verified is None:
        return None
    return "by " + " with ".join(part for part in (verified["by"], verified["secret"]) if part)


def _delivery(delivery: dict[str, Any]) -> str:
    number = delivery["attempts_made"]
    parts = [delivery["status"], "1 attempt" if number == 1 else f"{number} attempts"]
    if delivery["last_reason"]:
        parts.append(last_outcome(delivery))
    if delivery["due"]:
        parts.append(f"due {delivery['due']}")
    if delivery["note"]:
        parts.append(f"by {visible(delivery['discarded_by'])}: {visible(delivery['note'])}")
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
