"""The command `status`: what a running gateway does, and what needs an operator."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gatehouse.cli.options import config_option, json_option, operator_option
from gatehouse.cli.output import print_answer, table, visible
from gatehouse.cli.states import DESTINATION_COLUMNS, SOURCE_COLUMNS, destination_row, size, source_row
from gatehouse.cli.times import ago, duration, unix, until
from gatehouse.operator import attention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    State = Mapping[str, Any]


class Finding(NamedTuple):
    """Something that needs an operator."""

    what: str
    #: The next command, or what to do.
    hint: str


@click.command("status")
@json_option
@operator_option
@config_option
def status(as_json: bool, operator: str | None, config: str | None) -> None:
    """Show the state of a running gateway: problems, sources, destinations and the store.

    Each problem comes with the next command. A paused destination is shown, but is not a problem.

    Exits 0 if nothing needs an operator. Exits 1 if a source or destination is not ready, a circuit breaker
    is open, there are dead letters, the store or its disk has a problem, a worker does not serve, or the last
    reload failed. It also exits 1 if no gateway answers.
    """
    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch

    answer = fetch(find_access(config, operator), "/api/v1/status")
    found = list(findings(answer))
    print_answer(answer, partial(_lines, found=found), as_json=as_json)
    sys.exit(1 if found else 0)


def findings(answer: dict[str, Any]) -> Iterator[Finding]:
    """Return what needs an operator, with the most serious first."""
    now = unix(answer["now"])
    return (_WORDS[found.kind](found.about, now) for found in attention.findings(answer))


def _store_unavailable(_: State, __: float) -> Finding:
    hint = "look for store.unavailable or store.file_lost in the log"
    return Finding("the store does not answer; providers get 503", hint)


def _disk_low(store: State, _: float) -> Finding:
    what = f"the disk of the store has only {size(store['free_bytes'])} free; providers get 503"
    return Finding(what, "free space on it, or lower store.min_free and run gatehouse reload")


def _worker(worker: State, _: float) -> Finding:
    return Finding(f"worker {worker['number']} does not serve", "look for its error in the log")


def _reload_failed(reload: State, _: float) -> Finding:
    problems = reload["problems"]
    first = f": {visible(problems[0])}" if problems else ""
    what = f"the last reload failed; the previous config is in use{first}"
    return Finding(what, "gatehouse check, then gatehouse reload")


def _breaker_open(destination: State, now: float) -> Finding:
    name, opened, probe = destination["name"], destination["open_since"], destination["next_probe"]
    since = f" has been open for {duration(now - unix(opened))}" if opened else " is open"
    then = f"; next probe {until(probe, now)}" if probe else ""
    what = f"the circuit breaker of destination {name}{since}{then}"
    return Finding(what, f"gatehouse resume {name}, to try again now")


def _dead_letters(destination: State, _: float) -> Finding:
    name, count = destination["name"], destination["dead"]
    number = f"{count:,} dead letter" + ("s" if count > 1 else "")
    hint = f"gatehouse dead --destination {name}, then gatehouse retry --destination {name}"
    return Finding(f"destination {name} has {number}", hint)


def _source_not_ready(source: State, _: float) -> Finding:
    return _not_ready("source", source)


def _destination_not_ready(destination: State, _: float) -> Finding:
    return _not_ready("destination", destination)


def _not_ready(kind: str, state: State) -> Finding:
    reason = visible(state["not_ready"] or "")
    hint = "correct it, then run gatehouse reload"
    if attention.needs_restart(reason):
        hint = "set the variable and restart the gateway"
    return Finding(f"{kind} {state['name']} is not ready: {reason}", hint)


_WORDS: dict[attention.Kind, Callable[[State, float], Finding]] = {
    "store_unavailable": _store_unavailable,
    "disk_low": _disk_low,
    "worker_not_serving": _worker,
    "source_not_ready": _source_not_ready,
    "reload_failed": _reload_failed,
    "destination_not_ready": _destination_not_ready,
    "breaker_open": _breaker_open,
    "dead_letters": _dead_letters,
}


def _lines(answer: dict[str, Any], found: list[Finding]) -> Iterator[str]:
    now = unix(answer["now"])
    up = duration(now - unix(answer["started"]))
    workers = f", {len(answer['workers'])} workers" if "workers" in answer else ""
    yield f"gatehouse {answer['version']}, up {up}{workers}"
    yield ""
    for finding in found:
        yield click.style(f"Problem: {finding.what}", fg="red")
        yield f"Try: {finding.hint}"
    if found:
        yield ""
    yield from table(
        [source_row(one, now) for one in answer["sources"]], SOURCE_COLUMNS, uncut=SOURCE_COLUMNS
    )
    yield ""
    rows = [destination_row(one, now) for one in answer["destinations"]]
    yield from table(rows, DESTINATION_COLUMNS, uncut=DESTINATION_COLUMNS)
    yield ""
    yield _store(answer["store"])
    reload = answer["reload"]
    how = "loaded" if reload["successful"] else "refused"
    yield f"config  {how} {ago(reload['at'], now)}"
    if not found:
        yield click.style("Nothing needs an operator.", fg="green")


def _store(store: dict[str, Any]) -> str:
    free = "" if store["free_bytes"] is None else f", {size(store['free_bytes'])} free"
    return f"store   {visible(store['place'])}, {size(store['size_bytes'])}{free}"
