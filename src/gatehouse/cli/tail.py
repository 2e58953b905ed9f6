"""The command `tail`: shows what a running gateway does, while it does it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import (
    TIME_FORMS,
    complete_destination,
    complete_source,
    config_option,
    operator_option,
)
from gatehouse.cli.output import INTERRUPTED, visible

if TYPE_CHECKING:
    from gatehouse.cli.following import Entry

_FIRST_ERROR = 400
#: What follows a failed attempt that has no next one yet, by the status of the delivery.
_WITHOUT_NEXT = {
    "pending": "again when the destination is resumed",
    "dead": "now a dead letter",
    None: "the event is not stored",
}


@click.command("tail")
@click.option(
    "--source", metavar="NAME", shell_complete=complete_source, help="Only what comes from this source."
)
@click.option("--type", metavar="PATTERN", help="Only these event types, as in routes.")
@click.option(
    "--destination",
    metavar="NAME",
    shell_complete=complete_destination,
    help="Only events for this destination, and the attempts at it.",
)
@click.option("--since", metavar="TIME", help=f"Begin with stored events from this time on: {TIME_FORMS}.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each entry of the stream.")
@operator_option
@config_option
def tail(as_json: bool, operator: str | None, config: str | None, **filters: str | None) -> None:
    """Show events, attempts and refused requests of a running gateway, while they happen.

    Times are in UTC. When the gateway restarts, the command connects again and continues with the events that
    it missed. Ctrl-C ends it with exit code 130.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.following import Follower

    follower = Follower(find_access(config, operator), given(filters), notify)
    try:
        for entry in follower.entries():
            line = as_line(entry) if as_json else describe(entry)
            if line is not None:
                click.echo(line)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def given(filters: dict[str, str | None]) -> dict[str, str]:
    """Return the filters that are set."""
    return {name: value for name, value in filters.items() if value is not None}


def notify(line: str) -> None:
    """Print what happened to the connection."""
    click.echo(line, err=True)


def as_line(entry: Entry) -> str:
    """Write an entry as one line of JSON."""
    return json.dumps({"kind": entry.kind, "position": entry.id} | entry.data)


def describe(entry: Entry) -> str | None:
    """Write an entry as one line for people; None if another entry says the same."""
    data = entry.data
    if entry.kind == "left_out":
        number = "some" if data["count"] is None else f"{data['count']:,}"
        return click.style(f"{number} entries are missing here", fg="yellow")
    what = {"event": _event, "attempt": _attempt, "request": _request}[entry.kind](data)
    return None if what is None else f"{clock(data['at'])}  {what}"


def clock(moment: str) -> str:
    """Return the time of day of a time of the API."""
    return visible(moment[11:19])


def event_name(data: dict[str, Any]) -> str:
    """Say which event an entry is about."""
    return "  ".join(visible(data[name]) for name in ("source", "type", "external_id"))


def _event(data: dict[str, Any]) -> str:
    names = visible(", ".join(data["destinations"]))
    return f"{event_name(data)}  accepted for {names or 'no destination'}"


def _attempt(data: dict[str, Any]) -> str:
    status, reason = data["http_status"], visible(data["reason"])
    if reason == "ok":
        outcome = click.style(str(status), fg="green")
    else:
        outcome = click.style(f"{reason} {status}" if status else reason, fg="red")
    parts = [f"{event_name(data)}  → {visible(data['destination'])}  {outcome}  {data['duration_ms']:.0f} ms"]
    if reason != "ok":
        parts += [visible(data["error"])] if data.get("error") else []
        parts += _what_follows(data)
    return "; ".join(parts)


def _what_follows(data: dict[str, Any]) -> list[str]:
    """Say what becomes of a delivery after a failed attempt."""
    if data["next"]:
        return [f"again at {clock(data['next'])}"]
    # An earlier version of the gateway doesn't send the status.
    return [_WITHOUT_NEXT[data["status"]]] if "status" in data else []


def _request(data: dict[str, Any]) -> str | None:
    outcome, source = visible(data["outcome"]), visible(data["source"] or "unknown path")
    if data["status"] < _FIRST_ERROR:
        # An accepted request has an entry for each of its events.
        return None if outcome == "accepted" else f"{source}  {outcome}"
    reason = visible(data["reason"] or outcome)
    refused = click.style(f"refused {data['status']} {reason}", fg="red")
    return f"{source}  {refused}  from {visible(data['client'] or 'an unknown address')}"
