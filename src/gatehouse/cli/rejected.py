"""The command `rejected`: shows the requests that a running gateway refused, and what to check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.findings import client, each_finding, refused_request
from gatehouse.cli.options import complete_source, config_option, json_option, operator_option
from gatehouse.cli.output import print_answer

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("rejected")
@click.argument("rejected_id", metavar="[ID]", required=False)
@click.option(
    "--source", metavar="NAME", shell_complete=complete_source, help="Only requests for this source."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 500),
    metavar="N",
    default=20,
    show_default=True,
    help="List at most N.",
)
@json_option
@operator_option
@config_option
def rejected(
    rejected_id: str | None,
    source: str | None,
    limit: int,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """List the requests that a running gateway refused, newest first, and what to check.

    With ID, show that request. The gateway keeps the last 20 requests per source, in memory. Values that can
    be credentials are masked.
    """
    from urllib.parse import quote

    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch, with_query

    if rejected_id is not None and source is not None:
        raise click.UsageError("an ID can't be combined with --source")
    access = find_access(config, operator)
    if rejected_id is not None:
        answer = fetch(access, f"/api/v1/rejected/{quote(rejected_id, safe='')}")
        print_answer(answer, refused_request, as_json=as_json)
    else:
        answer = fetch(access, with_query("/api/v1/rejected", limit=limit, source=source))
        print_answer(answer, _list, as_json=as_json)


def _list(answer: dict[str, Any]) -> Iterator[str]:
    from gatehouse.cli.times import ago

    if not answer["rejected"]:
        yield "no refused requests since the start of the gateway"
    for record in answer["rejected"]:
        reason = click.style(record["reason"] or record["outcome"], fg="red")
        where = f"{record['source']}  {reason}  from {client(record)}"
        yield f"{record['id']}  {ago(record['time'])}  {where}"
        yield from each_finding(record["findings"], record.get("explained", ()))
