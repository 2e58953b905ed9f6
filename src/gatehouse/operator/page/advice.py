"""What needs operator action, and what else an operator should know: in words, with what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.operator import attention
from gatehouse.operator.page.states import State, events, open_for, paused_for
from gatehouse.operator.page.wording import ago, clock, number, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatehouse.operator.page.series import Silence

#: So many refused requests the gateway keeps for each source.
MOST_REFUSED: Final = 20


class Link(NamedTuple):
    """A link to a screen."""

    label: str
    path: str
    query: Mapping[str, str] = {}


class Advice(NamedTuple):
    """One entry of the list. `state` names what is wrong, `what` and `do` are sentences."""

    state: State
    what: str
    do: str
    links: tuple[Link, ...]


def problems(status: Mapping[str, Any], now: float) -> list[Advice]:
    """Return what needs operator action, with the most serious first. `status` is that of the API."""
    return [_WORDS[found.kind](found.about, now) for found in attention.findings(status)]


def about_destination(state: Mapping[str, Any], now: float, paused_since: str | None) -> list[Advice]:
    """Return what to know about a destination, and what to do."""
    found = [_WORDS[one.kind](one.about, now) for one in attention.destination_findings(state)]
    return ([_paused(state, now, paused_since)] if state["paused"] else []) + found


def about_source(state: Mapping[str, Any], now: float, silent: Silence | None) -> list[Advice]:
    """Return what to know about a source, and what to do."""
    found = [] if state["ready"] else [_source_not_ready(state, now)]
    if silent:
        found.append(_silent(state["name"], silent))
    return found + ([_refusing(state, now)] if state["refused_last_hour"] else [])


def remarks(status: Mapping[str, Any], now: float, paused_since: Mapping[str, str]) -> list[Advice]:
    """Return what an operator should know, beside the problems: paused destinations and refused requests.

    `paused_since` has the times at which destinations were paused, as far as they are known.
    """
    paused = [one for one in status["destinations"] if one["paused"]]
    refusing = [one for one in status["sources"] if one["refused_last_hour"]]
    return [
        *(_paused(one, now, paused_since.get(one["name"])) for one in paused),
        *(_refusing(one, now) for one in refusing),
    ]


_SYSTEM: Final = Link("System", "/system")


def _destination(state: Mapping[str, Any]) -> Link:
    return Link(f"Destination {state['name']}", f"/destinations/{state['name']}")


def _source(state: Mapping[str, Any]) -> Link:
    return Link(f"Source {state['name']}", f"/sources/{state['name']}")


def _store_unavailable(_: Mapping[str, Any], __: float) -> Advice:
    return Advice(
        State("bad", "dead", "Store unavailable"),
        "The store does not answer. Providers get 503, and send again later.",
        "Look for store.unavailable or store.file_lost in the log.",
        (_SYSTEM,),
    )


def _disk_low(store: Mapping[str, Any], _: float) -> Advice:
    return Advice(
        State("bad", "dead", "Disk low"),
        f"The disk of the store has only {size(store['free_bytes'])} free. Providers get 503.",
        "Free space on it, or lower store.min_free and reload the config.",
        (_SYSTEM,),
    )


def _worker_not_serving(worker: Mapping[str, Any], _: float) -> Advice:
    what = f"Worker {worker['number']} does not serve. The others do its work."
    do = "Look for its error in the log."
    return Advice(State("bad", "dead", "Worker down"), what, do, (_SYSTEM,))


def _source_not_ready(source: Mapping[str, Any], _: float) -> Advice:
    what = f"Source {source['name']} answers 503: {source['not_ready']}."
    return _not_ready(what, source, _source(source))


def _destination_not_ready(destination: Mapping[str, Any], _: float) -> Advice:
    what = f"Nothing is delivered to {destination['name']}: {destination['not_ready']}."
    return _not_ready(what, destination, _destination(destination))


def _not_ready(what: str, state: Mapping[str, Any], link: Link) -> Advice:
    do = "Correct it, then reload the config."
    if attention.needs_restart(state["not_ready"] or ""):
        do = "Set the variable, then restart the gateway."
    return Advice(State("bad", "dead", "Not ready"), what, do, (link,))


def _reload_failed(state: Mapping[str, Any], now: float) -> Advice:
    first = f": {state['problems'][0]}" if state["problems"] else "."
    what = f"The config was refused {ago(state['at'], now)}, and the previous one is in use{first}"
    do = "Correct the file, then reload the config."
    return Advice(State("bad", "dead", "Reload failed"), what, do, (_SYSTEM,))


def _breaker_open(state: Mapping[str, Any], now: float) -> Advice:
    name = state["name"]
    what = (
        f"The circuit breaker of {name} {open_for(state, now)}, after {events(state['failures'])} failed."
        f"{_probe(state['next_probe'], now)}"
    )
    pending = Link("Pending events", "/events", {"destination": name, "status": "pending"})
    do = "Find out why the destination fails. If it is back, probe it now."
    return Advice(State("bad", "open", "Breaker open"), what, do, (_destination(state), pending))


def _probe(time: str | None, now: float) -> str:
    """Say when the next probe starts, and at which time of day, since the page may be read later."""
    return f" The next probe starts {ago(time, now)}, at {clock(time).partition('.')[0]} UTC." if time else ""


def _dead_letters(state: Mapping[str, Any], _: float) -> Advice:
    name, count = state["name"], state["dead"]
    what = f"{number(count)} dead {'letters' if count > 1 else 'letter'} of {name}. Nothing retries them."
    do = "Correct the cause, then retry them, or discard them."
    link = Link("Dead letters", "/dead", {"destination": name})
    return Advice(State("bad", "dead", "Dead letters"), what, do, (link,))


def _paused(state: Mapping[str, Any], now: float, since: str | None) -> Advice:
    what = f"{state['name']} {paused_for(since, now)}. {_waiting(state['pending'])}"
    do = "Resume it when it should get events again."
    return Advice(State("warn", "paused", "Paused"), what, do, (_destination(state),))


def _waiting(pending: int) -> str:
    if not pending:
        return "No delivery waits."
    return "1 delivery waits." if pending == 1 else f"{number(pending)} deliveries wait."


def _silent(name: str, silent: Silence) -> Advice:
    what = (
        f"{name} got no event for {seconds(silent.lasts)}. In the last 24 hours, it was silent for at most "
        f"{seconds(silent.longest_before)} before."
    )
    do = "Check at the provider whether it still sends, and that it sends to this address."
    return Advice(State("warn", "paused", "Silent"), what, do, ())


def _refusing(state: Mapping[str, Any], now: float) -> Advice:
    name, count, last = state["name"], state["refused_last_hour"], state["last_refused"]
    how_many = f"{count} or more" if count >= MOST_REFUSED else str(count)
    what = f"{name} refused {how_many} {'requests' if count > 1 else 'request'} in the last hour"
    latest = f", the latest {ago(last['time'], now)}: {last['reason']}." if last else "."
    do = "See what was found, then correct the secret or the config."
    latest_one = (Link("Latest one", f"/refused/{last['id']}"),) if last else ()
    links = (*latest_one, Link("Refused requests", "/refused", {"source": name}))
    return Advice(State("warn", "open", "Refused"), what + latest, do, links)


_WORDS: Final[dict[attention.Kind, Callable[[Mapping[str, Any], float], Advice]]] = {
    "store_unavailable": _store_unavailable,
    "disk_low": _disk_low,
    "worker_not_serving": _worker_not_serving,
    "source_not_ready": _source_not_ready,
    "reload_failed": _reload_failed,
    "destination_not_ready": _destination_not_ready,
    "breaker_open": _breaker_open,
    "dead_letters": _dead_letters,
}
