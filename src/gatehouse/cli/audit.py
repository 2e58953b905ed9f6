"""The command `audit`: lists what operators changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import (
    TIME_FORMS,
    config_option,
    json_option,
    operator_option,
    page_options,
)
from gatehouse.cli.output import page, print_answer, to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = {
    "time": "at",
    "who": "who",
    "role": "role",
    "action": "action",
    "count": "count",
    "changed": "what",
}
#: As in `store.records.Action`, whose module would have to be imported for each `--help`.
_ACTIONS = (
    *("replay", "retry", "discard", "pause", "resume", "probe", "test"),
    *("reload", "verify", "sweep", "forget"),
)


@click.command("audit")
@click.option("--who", metavar="NAME", help="Only changes by this token, by `local` or by `SIGHUP`.")
@click.option(
    "--action",
    metavar="ACTION",
    type=click.Choice(_ACTIONS),
    help=f"Only changes of this kind: {', '.join(_ACTIONS)}.",
)
@click.option("--since", metavar="TIME", help=f"Only changes at this time (UTC) or later: {TIME_FORMS}.")
@click.option("--until", metavar="TIME", help="Only changes before this time.")
@page_options
@json_option
@operator_option
@config_option
def audit(
    limit: int,
    cursor: str | None,
    as_json: bool,
    operator: str | None,
    config: str | None,
    **filters: str | None,
) -> None:
    """List what operators changed in a running gateway, newest first.

    Each line says when, who, with which role, what and how many. Times are in UTC.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch, with_query

    path = with_query("/api/v1/audit", limit=limit, cursor=cursor, **filters)
    answer = fetch(find_access(config, operator), path)
    print_answer(answer, _entries, as_json=as_json)


def _entries(answer: dict[str, Any]) -> Iterator[str]:
    rows = [
        row | {"time": to_seconds(row["at"]), "changed": _changed(row["what"])} for row in answer["audit"]
    ]
    return page(rows, _COLUMNS, answer["cursor"], uncut=("time", "who"), empty="no changes")


def _changed(what: dict[str, Any]) -> str:
    """Describe what was changed on one line."""
    return " ".join(f"{name}={_value(value)}" for name, value in what.items() if value not in ({}, []))


def _value(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
