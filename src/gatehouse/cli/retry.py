"""The commands `retry` and `replay`: deliver again what is dead or was delivered before."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli import operations
from gatehouse.cli.access import find_access
from gatehouse.cli.operations import operation_options
from gatehouse.cli.options import (
    complete_dead,
    complete_destination,
    complete_event,
    config_option,
    event_filter_options,
    filter_options,
    json_option,
    operator_option,
)
from gatehouse.cli.output import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatehouse.cli.access import Access
    from gatehouse.cli.operations import Started
    from gatehouse.cli.options import Filters

_RETRY_PATH = "/api/v1/deliveries/retry"


@click.command("retry")
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_dead)
@filter_options
@click.option("--all", "every", is_flag=True, help="Retry every dead letter.")
@click.option("--dry-run", is_flag=True, help="Count the dead letters that would be retried; change nothing.")
@click.option("--yes", is_flag=True, help="With --rate: do not ask.")
@operation_options
@json_option
@operator_option
@config_option
def retry(
    delivery_ids: tuple[str, ...],
    filters: Filters,
    *,
    every: bool,
    dry_run: bool,
    yes: bool,
    rate: str | None,
    started: Started,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Retry dead letters: those with these IDs, or all that match the filters.

    gatehouse dead lists the IDs. Retried deliveries are due at once, within the destination's rate limit, and
    start their retry schedule over. Pending and delivered ones stay as they are, so it is safe to run the
    command twice.

    With --rate, the gateway retries them at that rate, and goes on when this command or the gateway ends. The
    command shows the plan, asks, and shows the progress. --list lists such retries, running and recent ones.
    """
    given = filters.given()
    if started.is_given():
        _check_alone(delivery_ids, given, every=every)
        started.handle("retry", find_access(config, operator), as_json=as_json)
        return
    if delivery_ids and (given or every or dry_run):
        raise click.UsageError("IDs can't be combined with filters, --all or --dry-run")
    if not (delivery_ids or given or every):
        raise click.UsageError("name IDs or filters, or use --all to retry every dead letter")
    if given and every:
        raise click.UsageError("--all can't be combined with filters")
    if rate is not None and delivery_ids:
        raise click.UsageError("IDs can't be combined with --rate")
    if rate is not None:
        body = {"filter": given, "rate": rate} if given else {"all": True, "rate": rate}
        access = find_access(config, operator)
        operations.run_operation("retry", access, body, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    access = find_access(config, operator)
    if delivery_ids:
        _retry_each(access, delivery_ids, as_json=as_json)
        return
    selection: dict[str, Any] = {**given} or {"all": True}
    counts = (_count if dry_run else _retry_all)(access, selection)
    if not counts:
        filters.check(config)
    _print_counts(counts, as_json=as_json, dry_run=dry_run)


@click.command("replay")
@click.argument("event_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_event)
@event_filter_options
@click.option("--all", "every", is_flag=True, help="Replay every event.")
@click.option(
    "--to",
    "destinations",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_destination,
    help="Deliver only to this destination; may be repeated.  [default: all that had the event]",
)
@click.option("--dry-run", is_flag=True, help="Count the events that would be replayed; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@operation_options
@json_option
@operator_option
@config_option
def replay(
    event_ids: tuple[str, ...],
    filters: Filters,
    *,
    every: bool,
    destinations: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    rate: str | None,
    started: Started,
    as_json: bool,
    operator: str | None,
    config: str | None,
) -> None:
    """Deliver events again: those with these IDs, or all that match the filters.

    Destinations get the same idempotency key as before. Deliveries that are pending, or were replayed within
    the last 10 seconds, stay as they are, so it is safe to run the command twice.

    With IDs: if no route sends an event to a destination of --to, the command asks first. --yes skips the
    question.

    With filters: the command shows the plan, asks, and shows the progress. The gateway replays the events at
    --rate (50/s by default), and goes on when this command or the gateway ends. --list lists running and
    recent replays, --watch ID shows one, and --stop ID stops it.
    """
    given = filters.given()
    if started.is_given():
        _check_alone(event_ids, given, every=every)
        started.handle("replay", find_access(config, operator), as_json=as_json)
        return
    if event_ids and (given or every or rate or dry_run):
        raise click.UsageError("IDs can't be combined with filters, --all, --rate or --dry-run")
    if given and every:
        raise click.UsageError("--all can't be combined with filters")
    if event_ids:
        _replay_each(event_ids, destinations, operator, config, yes=yes, as_json=as_json)
        return
    if not (given or every):
        raise click.UsageError("name IDs or filters, or use --all to replay every event")
    body: dict[str, Any] = {"filter": given} if given else {"all": True}
    if destinations:
        body["to"] = list(destinations)
    if rate is not None:
        body["rate"] = rate
    access = find_access(config, operator)
    operations.run_operation("replay", access, body, dry_run=dry_run, yes=yes, as_json=as_json)


def _check_alone(ids: tuple[str, ...], given: Mapping[str, str], *, every: bool) -> None:
    if ids or given or every:
        raise click.UsageError("--list, --watch and --stop can't be combined with IDs, filters or --all")


def _replay_each(
    event_ids: tuple[str, ...],
    destinations: tuple[str, ...],
    operator: str | None,
    config: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    from urllib.parse import quote

    from gatehouse.cli.operator_client import change, for_each

    access = find_access(config, operator)
    body = {"destinations": list(destinations)} if destinations else {}

    def replay_one(event_id: str) -> None:
        path = f"/api/v1/events/{quote(event_id, safe='')}/replay"
        answer = change("POST", access, path, body)
        click.echo(json.dumps(answer) if as_json else f"{event_id}  {_replayed(answer)}")

    if destinations and not yes:
        _confirm_unrouted(access, event_ids, destinations)
    for_each(event_ids, replay_one)


def _retry_each(access: Access, delivery_ids: tuple[str, ...], *, as_json: bool) -> None:
    from urllib.parse import quote

    from gatehouse.cli.operator_client import change, for_each

    def retry_one(delivery_id: str) -> None:
        path = f"/api/v1/deliveries/{quote(delivery_id, safe=':')}/retry"
        answer = change("POST", access, path, {})
        result = "retried" if answer["retried"] else "unchanged: not a dead letter"
        click.echo(json.dumps({"id": delivery_id} | answer) if as_json else f"{delivery_id}  {result}")

    for_each(delivery_ids, retry_one)


def _count(access: Access, selection: dict[str, Any]) -> dict[str, int]:
    from gatehouse.cli.operator_client import change

    counts: dict[str, int] = {}
    body = selection | {"dry_run": True}
    while True:
        answer = change("POST", access, _RETRY_PATH, body)
        _add(counts, answer["would_retry"])
        if answer["cursor"] is None:
            break
        body["cursor"] = answer["cursor"]
        _show_progress(sum(counts.values()))
    _show_progress(None)
    return counts


def _retry_all(access: Access, selection: dict[str, Any]) -> dict[str, int]:
    """Retry in steps, so that no step occupies the store for long, and show the progress.

    Every step uses the time of the first, so that a delivery which dies again meanwhile is not retried twice.
    """
    from gatehouse.cli.operator_client import change

    counts: dict[str, int] = {}
    body = dict(selection)
    while True:
        answer = change("POST", access, _RETRY_PATH, body)
        _add(counts, answer["retried"])
        if answer["done"]:
            break
        body["as_of"] = answer["as_of"]
        _show_progress(sum(counts.values()))
    _show_progress(None)
    return counts


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number


def _show_progress(number: int | None) -> None:
    """Show the progress on a line of the terminal that None removes."""
    if _is_watched():
        text = "" if number is None else f"{number} so far …"
        click.echo(f"\r\x1b[K{text}", nl=False, err=True, color=True)


def _is_watched() -> bool:
    return sys.stderr.isatty()


def _print_counts(counts: dict[str, int], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        click.echo(json.dumps({"would_retry" if dry_run else "retried": counts}, indent=2))
        return
    if not counts:
        click.echo("no dead letters match")
    for name, number in sorted(counts.items()):
        click.echo(f"{name}  {number} " + ("would be retried" if dry_run else "retried"))


def _confirm_unrouted(access: Access, event_ids: Iterable[str], destinations: Iterable[str]) -> None:
    """Ask about each event that no route sends to these destinations. Raises if the answer is not yes."""
    from urllib.parse import quote

    from gatehouse.cli.operator_client import fetch

    for event_id in event_ids:
        event = fetch(access, f"/api/v1/events/{quote(event_id, safe='')}")
        routed = event.get("routed")
        unrouted = [name for name in destinations if routed is not None and name not in routed]
        if not unrouted:
            continue
        kind = f"{visible(event['type'])} from {visible(event['source'])}"
        message = f"no route sends {event_id} ({kind}) to {', '.join(unrouted)}"
        if not sys.stdin.isatty():
            raise click.UsageError(f"{message}; nothing was replayed. Add --yes to replay it anyway")
        click.confirm(f"{message}. Replay it anyway?", abort=True, err=True)


def _replayed(answer: dict[str, list[str]]) -> str:
    parts = [f"to {', '.join(answer['replayed'])}"] if answer["replayed"] else []
    if answer["left_alone"]:
        names = ", ".join(answer["left_alone"])
        parts.append(f"unchanged, since pending or replayed in the last 10 seconds: {names}")
    return "; ".join(parts)
