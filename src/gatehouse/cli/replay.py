"""`gatehouse replay`."""

from __future__ import annotations

import json

import click

from gatehouse.cli.completing import complete_event
from gatehouse.cli.options import complete_destination, config_option, load_config
from gatehouse.cli.records import json_option, one_by_one, operator_option


@click.command("replay")
@click.argument("event_ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_event)
@click.option(
    "--to",
    "destinations",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_destination,
    help="Only to this destination; may be repeated.  [default: all that had the event]",
)
@json_option
@operator_option
@config_option
def command(
    event_ids: tuple[str, ...],
    destinations: tuple[str, ...],
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Deliver events again, with these IDs, as `gatehouse events` lists them.

    Destinations get the same idempotency key as before. A delivery that is pending, or was replayed within
    the last 10 seconds, stays as it is, so that asking twice is asking once.
    """
    import asyncio
    from urllib.parse import quote

    from gatehouse.cli.operator_client import post

    loaded = load_config(config)
    change = {"destinations": list(destinations)} if destinations else {}

    async def replay(event_id: str) -> None:
        where = f"/api/v1/events/{quote(event_id, safe='')}/replay"
        answer = await post(loaded, where, operator, change)
        click.echo(json.dumps(answer) if as_json else f"{event_id}  {_said(answer)}")

    asyncio.run(one_by_one(event_ids, replay))


def _said(answer: dict[str, list[str]]) -> str:
    parts = [f"to {', '.join(answer['replayed'])}"] if answer["replayed"] else []
    if answer["left_alone"]:
        parts.append(f"left alone, pending or replayed just now: {', '.join(answer['left_alone'])}")
    return "; ".join(parts)
