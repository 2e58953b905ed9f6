"""The commands `sources` and `destinations`, and the rows that they share with `status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, json_option, operator_option
from gatehouse.cli.output import table
from gatehouse.cli.times import ago, until

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE_COLUMNS = {
    "name": "source",
    "state": "state",
    "accepted": "last accepted",
    "refused": "refused in the last hour",
}
DESTINATION_COLUMNS = {
    "name": "destination",
    "state": "state",
    "pending": "pending",
    "oldest": "oldest pending",
    "dead": "dead",
}
_SOURCE_DETAILS = {"path": "path", "provider": "provider", "verified_by": "verified by"}
_DESTINATION_DETAILS = {"url": "url", "format": "format", "concurrency": "at once"}
#: So many refused requests the gateway keeps for each source.
_MOST_REFUSED = 20
_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


@click.command("sources")
@json_option
@operator_option
@config_option
def sources(as_json: bool, operator: str | None, config: str | None) -> None:
    """List the sources of a running gateway, and whether each is ready.

    Times and numbers are since the start of the gateway.
    """
    columns = {"name": "source", **_SOURCE_DETAILS, **SOURCE_COLUMNS}
    _show("sources", source_row, columns, tuple(SOURCE_COLUMNS), operator, config, as_json=as_json)


@click.command("destinations")
@json_option
@operator_option
@config_option
def destinations(as_json: bool, operator: str | None, config: str | None) -> None:
    """List the destinations of a running gateway, and the state of their deliveries."""
    columns = {"name": "destination", **_DESTINATION_DETAILS, **DESTINATION_COLUMNS}
    uncut = tuple(DESTINATION_COLUMNS)
    _show("destinations", destination_row, columns, uncut, operator, config, as_json=as_json)


def source_row(source: dict[str, Any], now: float) -> dict[str, Any]:
    """Describe a source in a table. `now` is in Unix seconds."""
    refused = source["refused_last_hour"]
    return source | {
        "state": "ready" if source["ready"] else "not ready",
        "accepted": ago(source["last_accepted"], now, never="not since the start"),
        "refused": f"{refused} or more" if refused >= _MOST_REFUSED else str(refused),
    }


def destination_row(destination: dict[str, Any], now: float) -> dict[str, Any]:
    """Describe a destination in a table. `now` is in Unix seconds."""
    return destination | {
        "state": _state(destination, now),
        "pending": f"{destination['pending']:,}",
        "dead": f"{destination['dead']:,}",
        "oldest": ago(destination["oldest_pending"], now, never="-"),
    }


def size(number: int) -> str:
    """Write a number of bytes in one unit."""
    for unit, length in _UNITS:
        if number >= length:
            return f"{number / length:,.1f} {unit}"
    return f"{number} B"


def _state(destination: dict[str, Any], now: float) -> str:
    if destination["paused"]:
        return "paused"
    if not destination["ready"]:
        return "not ready"
    if destination["breaker"] == "open":
        probe = destination["next_probe"]
        return "breaker open" + (f", probe {until(probe, now)}" if probe else "")
    return "delivering"


def _show(
    member: str,
    row: Callable[[dict[str, Any], float], dict[str, Any]],
    columns: dict[str, str],
    uncut: tuple[str, ...],
    operator: str | None,
    config: str | None,
    *,
    as_json: bool,
) -> None:
    import time

    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch

    answer = fetch(find_access(config, operator), f"/api/v1/{member}")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    rows = [row(one, time.time()) for one in answer[member]]
    click.echo("\n".join(table(rows, columns, uncut=uncut)) if rows else f"no {member}")
