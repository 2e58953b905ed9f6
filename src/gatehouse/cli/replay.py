"""`gatehouse replay`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from gatehouse.cli.completing import complete_event
from gatehouse.cli.options import complete_destination, config_option, load_config
from gatehouse.cli.records import json_option, one_by_one, operator_option, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatehouse.config.load import LoadedConfig


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
@click.option("--yes", is_flag=True, help="Do not ask about destinations that no route gives the event to.")
@json_option
@operator_option
@config_option
def command(
    event_ids: tuple[str, ...],
    destinations: tuple[str, ...],
    yes: bool,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Deliver events again, with these IDs, as `gatehouse events` lists them.

    Destinations get the same idempotency key as before. A delivery that is pending, or was replayed within
    the last 10 seconds, stays as it is, so that asking twice is asking once.

    A destination that no route gives an event to gets it only after a question, or with --yes.
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

    if destinations and not yes:
        asyncio.run(_check_routes(loaded, event_ids, destinations, operator))
    asyncio.run(one_by_one(event_ids, replay))


async def _check_routes(
    loaded: LoadedConfig, event_ids: Iterable[str], destinations: Iterable[str], operator: str | None
) -> None:
    """Ask about events that no route gives to these destinations. Raises when the answer is not yes."""
    from urllib.parse import quote

    from gatehouse.cli.operator_client import ask

    for event_id in event_ids:
        event = await ask(loaded, f"/api/v1/events/{quote(event_id, safe='')}", operator)
        routed = event.get("routed")
        others = [name for name in destinations if routed is not None and name not in routed]
        if not others:
            continue
        kind = f"{visible(event['type'])} from {visible(event['source'])}"
        message = f"no route gives {event_id} ({kind}) to {', '.join(others)}"
        if not sys.stdin.isatty():
            raise click.UsageError(f"{message}; nothing was replayed. Say --yes to replay it all the same")
        click.confirm(f"{message}. Replay it there all the same?", abort=True, err=True)


def _said(answer: dict[str, list[str]]) -> str:
    parts = [f"to {', '.join(answer['replayed'])}"] if answer["replayed"] else []
    if answer["left_alone"]:
        parts.append(f"left alone, pending or replayed just now: {', '.join(answer['left_alone'])}")
    return "; ".join(parts)
