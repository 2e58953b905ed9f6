"""How far a replay or a retry of many events is, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic_core import PydanticCustomError

from gatehouse.config.quantities import parse_rate
from gatehouse.operator.page.selection import in_words
from gatehouse.operator.page.states import State
from gatehouse.operator.page.wording import number, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How the API names them in its paths.
Operations = Literal["replays", "retries"]
NOUNS: Final[dict[Operations, str]] = {"replays": "replay", "retries": "retry"}
DONE: Final[dict[Operations, str]] = {"replays": "replayed", "retries": "retried"}
_STATES: Final = {
    "running": State("wait", "pending", "running"),
    "waiting": State("warn", "paused", "waiting"),
    "done": State("ok", "delivered", "done"),
    "cancelled": State("quiet", "discarded", "stopped"),
}


def shown(kind: Operations, operation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation with what a page says about it."""
    current = current_state(operation)
    return {
        **operation,
        "kind": kind,
        "noun": NOUNS[kind],
        "path": f"/operations/{kind}/{operation['id']}",
        "current": current,
        "shown_state": _STATES[current],
        "percent": percent(operation),
        "progress": f"{number(processed(operation))} of {number(operation['total'])}",
        "remaining": remaining(operation),
        "waits": waits(kind, operation["waiting_for"]),
        "result": result(kind, operation),
        "chosen": in_words(operation["filter"], "events" if kind == "replays" else "dead letters"),
        "list_filter": dict(operation["filter"]) | ({"status": "dead"} if kind == "retries" else {}),
    }


def states() -> dict[str, State]:
    """Return all states, by `current_state`."""
    return dict(_STATES)


def current_state(operation: Mapping[str, Any]) -> str:
    """Return the state of an operation: that of the API, or `waiting` while it waits for a destination."""
    is_waiting = operation["state"] == "running" and operation["waiting_for"]
    return "waiting" if is_waiting else str(operation["state"])


def processed(operation: Mapping[str, Any]) -> int:
    """Return for how many events nothing is left to do."""
    return int(operation["done"] + operation["failed"])


def percent(operation: Mapping[str, Any]) -> float:
    """Return how much is done. An operation without events has nothing left to do."""
    total = operation["total"]
    return min(100.0, round(processed(operation) * 100 / total, 1)) if total else 100.0


def per_second(rate: str) -> float | None:
    """Return a rate as a number; None if it is not one."""
    try:
        return float(parse_rate(rate))
    except PydanticCustomError:
        return None


def lasts(events: int, rate: str) -> str:
    """Say how long so many events take at least at a rate; nothing if that is not a rate."""
    speed = per_second(rate)
    if speed is None:
        return ""
    return seconds(max(events / speed, 1.0))


def remaining(operation: Mapping[str, Any]) -> str:
    """Say how long an operation still takes."""
    if operation["state"] != "running":
        return "none"
    left = max(operation["total"] - processed(operation), 0)
    if operation["waiting_for"]:
        return f"unknown while it waits; {lasts(left, operation['rate'])} at its rate"
    return f"at least {lasts(left, operation['rate'])} at its rate"


def waits(kind: Operations, names: Sequence[str]) -> str:
    """Say what an operation waits for."""
    if not names:
        return "nothing"
    return (
        f"{', '.join(names)}: paused, not reachable, or busy with earlier deliveries. "
        f"The {NOUNS[kind]} goes on by itself."
    )


def result(kind: Operations, operation: Mapping[str, Any]) -> str:
    """Say how an operation ended; nothing while it runs."""
    state, done, failed, total = (operation[name] for name in ("state", "done", "failed", "total"))
    if state == "running":
        return ""
    if state == "cancelled":
        return f"Stopped after {number(done)} of {number(total)} events. What was due is still delivered."
    if not total:
        return f"Nothing was {DONE[kind]}: no event matched any more."
    parts = [f"{number(done)} of {number(total)} events were {DONE[kind]}."]
    if failed:
        parts.append(f"{number(failed)} could not be: no longer kept, or without a destination.")
    if missing := max(total - done - failed, 0):
        parts.append(f"{number(missing)} did not match any more when their turn came.")
    return " ".join(parts)
