"""Replays and retries of many events: shows the plan, asks, starts the operation, and watches it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, fields
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from gatehouse.cli.operator_client import change, fetch
from gatehouse.cli.output import INTERRUPTED, page, print_answer, to_seconds, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.cli.access import Access

#: The paths of the API, by command.
_PATHS: Final = {"replay": "/api/v1/replays", "retry": "/api/v1/retries"}
_WORDS: Final = {"replay": ("replay", "replayed"), "retry": ("retry", "retried")}
#: Seconds between two looks at an operation.
_LOOK_EVERY: Final = 0.5
#: Seconds to count the events of a plan.
_PLAN_WITHIN: Final = 300.0
#: How many types a plan lists.
_TYPES_SHOWN: Final = 10
_BAR_CELLS: Final = 30
_STATES: Final = {"running": "running", "done": "done", "cancelled": "stopped"}
_OPTIONS: Final = (
    click.option("--rate", metavar="RATE", help="At most this many events: 50/s, 600/m."),
    click.option("--list", "is_listed", is_flag=True, help="List the latest operations."),
    click.option("--watch", "watched", metavar="ID", help="Show how far the operation with this ID is."),
    click.option("--stop", "stopped", metavar="ID", help="Stop the operation with this ID."),
)
_COLUMNS: Final = {
    "id": "id",
    "started_at": "started",
    "by": "by",
    "shown_state": "state",
    "progress": "events",
    "rate": "rate",
    "chosen": "filter",
}


@dataclass(frozen=True, slots=True)
class Started:
    """What the options say about operations that were started before."""

    is_listed: bool
    watched: str | None
    stopped: str | None

    def is_given(self) -> bool:
        """Tell whether there is such an option."""
        return self.is_listed or self.watched is not None or self.stopped is not None

    def handle(self, kind: str, access: Access, *, as_json: bool) -> None:
        """List, show or stop operations, as the options say."""
        if self.is_listed:
            _list(kind, access, as_json=as_json)
        if self.watched is not None:
            show(kind, access, self.watched, as_json=as_json)
        if self.stopped is not None:
            stop(kind, access, self.stopped, as_json=as_json)


def operation_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the options of a command that starts, lists, shows and stops operations.

    The command gets `rate` and `started`.
    """

    @wraps(command)
    def with_started(**given: Any) -> None:  # noqa: ANN401 - click's own
        started = Started(**{field.name: given.pop(field.name) for field in fields(Started)})
        command(started=started, **given)

    decorated: Callable[..., Any] = with_started
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def run_operation(
    kind: str, access: Access, body: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Show what would be replayed or retried, ask, start it, and watch it until it ends."""
    plan = change("POST", access, _PATHS[kind], body | {"dry_run": True}, within=_PLAN_WITHIN)
    if not as_json:
        click.echo("\n".join(_plan(kind, plan)))
    elif dry_run or not yes:
        click.echo(json.dumps(plan, indent=2))
    if dry_run or not plan["events"]:
        return
    present, past = _WORDS[kind]
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise click.UsageError(f"nothing was {past}. Add --yes to {present} these events")
        click.confirm(f"{present.capitalize()} {_number(plan['events'], 'event')}?", abort=True, err=True)
    started = change("POST", access, _PATHS[kind], body, within=_PLAN_WITHIN)
    watch(kind, access, started["id"], as_json=as_json)


def _list(kind: str, access: Access, *, as_json: bool) -> None:
    path = _PATHS[kind]
    print_answer(fetch(access, path), partial(_listed, path.rpartition("/")[2]), as_json=as_json)


def _listed(plural: str, answer: dict[str, Any]) -> Iterator[str]:
    rows = list(map(_row, answer[plural]))
    uncut = ("id", "started_at", "shown_state", "progress", "rate")
    return page(rows, _COLUMNS, None, uncut=uncut, empty=f"no {plural}")


def _row(progress: dict[str, Any]) -> dict[str, Any]:
    processed, failed = progress["done"] + progress["failed"], progress["failed"]
    state = "waiting" if progress["waiting_for"] else _STATES[progress["state"]]
    chosen = progress["filter"] | ({"to": ",".join(progress["to"])} if progress["to"] else {})
    return progress | {
        "started_at": to_seconds(progress["started"]),
        "shown_state": state,
        "progress": f"{processed:,} of {progress['total']:,}" + (f", {failed:,} failed" if failed else ""),
        "chosen": " ".join(f"{name}={value}" for name, value in chosen.items()),
    }


def show(kind: str, access: Access, operation_id: str, *, as_json: bool) -> None:
    """Show an operation. On a terminal, watch it until it ends."""
    if as_json or not sys.stderr.isatty():
        _print(kind, fetch(access, _path(kind, operation_id)), as_json=as_json)
    else:
        watch(kind, access, operation_id, as_json=False)


def stop(kind: str, access: Access, operation_id: str, *, as_json: bool) -> None:
    """Stop an operation."""
    _print(kind, change("DELETE", access, _path(kind, operation_id)), as_json=as_json)


def watch(kind: str, access: Access, operation_id: str, *, as_json: bool) -> None:
    """Show the progress of an operation until it ends. Ctrl-C ends the command and not the operation."""
    try:
        while (progress := fetch(access, _path(kind, operation_id)))["state"] == "running":
            _show_line(_progress_line(kind, progress))
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        _show_line(None)
        how = f"gatehouse {kind} --watch {operation_id}"
        end = f"gatehouse {kind} --stop {operation_id}"
        click.echo(f"The {_WORDS[kind][0]} goes on. Watch it: {how}\nStop it: {end}", err=True)
        sys.exit(INTERRUPTED)
    _show_line(None)
    _print(kind, progress, as_json=as_json)


def _path(kind: str, operation_id: str) -> str:
    return f"{_PATHS[kind]}/{quote(operation_id, safe='')}"


def _plan(kind: str, plan: dict[str, Any]) -> Iterator[str]:
    if not plan["events"]:
        yield "no dead letters match" if kind == "retry" else "no events match"
        return
    yield f"{_number(plan['events'], 'event')}, {_number(plan['deliveries'], 'delivery')}"
    for name, counts in plan["by"].items():
        shown = list(counts.items())[:_TYPES_SHOWN]
        for label, number in shown:
            yield f"  {name:<12}{number:>10,}  {visible(label)}"
        if len(counts) > len(shown):
            yield f"  {name:<12}{'…':>10}  and {len(counts) - len(shown)} more"


def _print(kind: str, progress: dict[str, Any], *, as_json: bool) -> None:
    print_answer(progress, partial(_operation, kind), as_json=as_json)


def _operation(kind: str, progress: dict[str, Any]) -> Iterator[str]:
    processed = progress["done"] + progress["failed"]
    state = {"running": "is running", "done": "is done", "cancelled": "was stopped"}[progress["state"]]
    yield f"{kind} {progress['id']} {state}: {processed:,} of {_number(progress['total'], 'event')}"
    if progress["failed"]:
        yield f"failed    {progress['failed']:,}: no longer kept, or the destination is not in the config"
    if progress["waiting_for"]:
        yield f"waits for {', '.join(map(visible, progress['waiting_for']))}"
    yield f"rate      at most {progress['rate']}"
    ended = "" if progress["ended"] is None else f", ended {to_seconds(progress['ended'])}"
    yield f"started   {to_seconds(progress['started'])} by {visible(progress['by'])}{ended}"


def _progress_line(kind: str, progress: dict[str, Any]) -> str:
    processed, total = progress["done"] + progress["failed"], progress["total"]
    full = _BAR_CELLS if not total else min(_BAR_CELLS, _BAR_CELLS * processed // total)
    bar = "#" * full + "." * (_BAR_CELLS - full)
    line = f"{kind} [{bar}] {processed:,} of {total:,}, at most {progress['rate']}"
    if progress["failed"]:
        line += f", {progress['failed']:,} failed"
    if progress["waiting_for"]:
        line += f", waits for {', '.join(map(visible, progress['waiting_for']))}"
    return line


def _show_line(text: str | None) -> None:
    """Show the progress on a line of the terminal that None removes."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text or ''}", nl=False, err=True, color=True)


def _number(number: int, what: str) -> str:
    plural = {"event": "events", "delivery": "deliveries"}[what]
    return f"{number:,} {what if number == 1 else plural}"
