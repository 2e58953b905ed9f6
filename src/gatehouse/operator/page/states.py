"""The states of sources and destinations, in words. Pure: `now` is Unix time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from gatehouse.language.times import parse_time
from gatehouse.operator.page.wording import ago, how_long, number, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatehouse.operator.page.series import Silence


class State(NamedTuple):
    """A state, as the macro `state` shows it."""

    kind: Literal["ok", "wait", "warn", "bad", "quiet"]
    #: The name of a shape in `parts.html`.
    icon: str
    words: str


#: How the words of the states begin, for filters.
SOURCE_STATES: Final = ("ready", "ready, last request refused", "silent", "not ready")
DESTINATION_STATES: Final = ("delivering", "failing", "breaker open", "paused", "not ready")


def source_state(source: Mapping[str, Any], silent: Silence | None) -> State:
    """Return the state of a source. `silent` is its unusual silence, if there is one."""
    if not source["ready"]:
        return State("bad", "dead", "not ready")
    if silent is not None:
        return State("warn", "paused", f"silent for {seconds(silent.lasts)}")
    if source["refused_last_hour"] and is_refusing(source):
        return State("warn", "open", "ready, last request refused")
    if source["last_accepted"] is None:
        return State("quiet", "unrouted", "ready, no event since the start")
    return State("ok", "delivered", "ready")


def is_refusing(source: Mapping[str, Any]) -> bool:
    """Return whether a source refused a request after its last event."""
    last = parse_time(source["last_refused"]["time"]) if source["last_refused"] else None
    accepted = parse_time(source["last_accepted"] or "")
    return last is not None and (accepted is None or last > accepted)


def destination_state(destination: Mapping[str, Any], now: float, paused_since: str | None = None) -> State:
    """Return the state of a destination. `paused_since` is when it was paused, if that is known."""
    if destination["paused"]:
        return State("warn", "paused", f"paused {ago(paused_since, now)}" if paused_since else "paused")
    if not destination["ready"]:
        return State("bad", "dead", "not ready")
    if destination["breaker"] == "open":
        failed = f"{events(destination['failures'])} failed"
        return State("bad", "open", f"breaker open: {failed}{next_probe(destination, now)}")
    if destination["failures"]:
        return State("warn", "open", f"failing: {events(destination['failures'])} since the last success")
    return State("ok", "delivered", "delivering")


def events(count: int) -> str:
    """Say how many events: `1 event`, `1,204 events`."""
    return "1 event" if count == 1 else f"{number(count)} events"


def next_probe(destination: Mapping[str, Any], now: float) -> str:
    """Say when the next probe is due, as an addition to a sentence; nothing if there is none."""
    probe = destination["next_probe"]
    return f", next probe {ago(probe, now)}" if probe else ""


def open_for(destination: Mapping[str, Any], now: float) -> str:
    """Say for how long a circuit breaker has been open: `has been open for 3 min`."""
    since = destination["open_since"]
    return f"has been open for {how_long(since, now)}" if since else "is open"


def paused_for(since: str | None, now: float) -> str:
    """Say for how long a destination has been paused, if that is known: `has been paused for 3 min`."""
    return f"has been paused for {how_long(since, now)}" if since else "is paused"
