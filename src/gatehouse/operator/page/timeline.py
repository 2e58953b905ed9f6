"""What happened to an event at each destination, and what happens next, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from gatehouse.language.times import parse_time
from gatehouse.operator.page.hidden import hidden_count
from gatehouse.operator.page.reasons import Explained, explain
from gatehouse.operator.page.states import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A reply with more characters or lines than this is shown on request.
_LONG_REPLY, _LONG_LINES = 240, 4
#: With more steps than this, only the first and the last ones are shown at once.
_MOST_STEPS, _FIRST_STEPS, _LAST_STEPS = 12, 3, 5


class Attempt(NamedTuple):
    """One attempt."""

    number: int
    at: str
    reason: str
    explained: Explained
    http_status: int | None
    duration_ms: int | None
    error: str | None
    reply: str | None
    #: The first of the attempts before it that had the same result; None if the one before had another.
    same_as: int | None = None

    @property
    def first(self) -> int:
        """The number, as of `Missing`."""
        return self.number

    @property
    def last(self) -> int:
        """The number, as of `Missing`."""
        return self.number

    @property
    def is_ok(self) -> bool:
        """Whether the destination accepted the event."""
        return self.reason == "ok"

    @property
    def has_long_reply(self) -> bool:
        """Whether the reply is shown on request only."""
        reply = self.reply or ""
        return (
            len(reply) > _LONG_REPLY or reply.count("\n") >= _LONG_LINES or hidden_count(reply) > _LONG_LINES
        )


class Missing(NamedTuple):
    """Attempts that are not kept."""

    first: int
    last: int


Step: TypeAlias = "Attempt | Missing"


class Next(NamedTuple):
    """What happens next with a delivery. `kind` and `icon` are those of the macro `state`."""

    kind: str
    icon: str
    words: str
    #: When, or since when.
    at: str | None = None
    is_since: bool = False
    #: What the operator can do.
    advice: str = ""


class Passage(NamedTuple):
    """The way of an event to one destination."""

    destination: str
    delivery: Mapping[str, Any]
    #: Whether the config has the destination.
    is_configured: bool
    #: The routes in use that select the destination for such an event; None if that is not known.
    routes: list[Mapping[str, Any]] | None
    #: The first steps, those in between that are shown on request, and the last ones.
    parts: tuple[list[Step], ...]
    next: Next


def passages(
    event: Mapping[str, Any],
    destinations: Mapping[str, Mapping[str, Any]],
    routes: Mapping[str, list[Mapping[str, Any]]] | None,
    now: float,
) -> list[Passage]:
    """Return the way to each destination of an event of the API.

    `destinations` are those of the config by name, and `routes` the routes in use by destination; None if
    they are not known. `now` is Unix time.
    """
    return [
        Passage(
            destination=(name := delivery["destination"]),
            delivery=delivery,
            is_configured=name in destinations,
            routes=None if routes is None else routes.get(name, []),
            parts=folded(steps(delivery["attempts"], delivery["attempts_made"])),
            next=what_next(delivery, destinations.get(name), now),
        )
        for delivery in event["deliveries"]
    ]


def steps(attempts: Iterable[Mapping[str, Any]], made: int) -> list[Step]:
    """Return attempts in order, with those in between that are not kept."""
    found: list[Step] = []
    expected = 1
    for given in attempts:
        attempt = _attempt(given)
        if attempt.number > expected:
            found.append(Missing(expected, attempt.number - 1))
        found.append(attempt)
        expected = attempt.number + 1
    if expected <= made:
        found.append(Missing(expected, made))
    return found


def folded(all_steps: list[Step]) -> tuple[list[Step], ...]:
    """Divide steps into the first, those that are shown on request, and the last."""
    if len(all_steps) <= _MOST_STEPS:
        return _compared(all_steps), [], []
    end = len(all_steps) - _LAST_STEPS
    parts = all_steps[:_FIRST_STEPS], all_steps[_FIRST_STEPS:end], all_steps[end:]
    return tuple(map(_compared, parts))


def _attempt(given: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number=given["number"],
        at=given["at"],
        reason=given["reason"],
        explained=explain(given["reason"], given["http_status"]),
        http_status=given["http_status"],
        duration_ms=given["duration_ms"],
        error=given["error"],
        reply=given["reply"],
    )


def _compared(some: list[Step]) -> list[Step]:
    """Return steps in which each attempt names the one that it repeats."""
    found: list[Step] = []
    for step in some:
        before = found[-1] if found else None
        if isinstance(step, Attempt) and isinstance(before, Attempt) and _result(step) == _result(before):
            found.append(step._replace(same_as=before.same_as or before.number))
        else:
            found.append(step)
    return found


def _result(attempt: Attempt) -> tuple[object, ...]:
    return attempt.reason, attempt.http_status, attempt.error, attempt.reply


def what_next(delivery: Mapping[str, Any], destination: Mapping[str, Any] | None, now: float) -> Next:
    """Return what happens next with a delivery. `destination` is its state; None if the config has none."""
    status, updated = delivery["status"], delivery["updated"]
    if status == "delivered":
        return Next("ok", "delivered", "Delivered", updated)
    if status == "discarded":
        words = f"Discarded by {delivery['discarded_by']}" if delivery["discarded_by"] else "Discarded"
        return Next("quiet", "discarded", words, updated, advice="A replay still delivers it.")
    if status == "dead":
        advice = (
            "There is no further attempt. Correct the cause, then retry it."
            if destination
            else f"{_NO_DESTINATION} Then retry it, or discard it."
        )
        return Next("bad", "dead", "Dead letter", updated, is_since=True, advice=advice)
    return _waiting(delivery["due"], destination, now)


_NO_DESTINATION: Final = "The config has no such destination. Add it again and reload."


def _waiting(due: str | None, destination: Mapping[str, Any] | None, now: float) -> Next:
    obstacle = _obstacle(destination)
    if obstacle is not None:
        return obstacle
    at = None if due is None else parse_time(due)
    if at is None:
        advice = "An earlier event with the same order key is delivered first."
        return Next("wait", "pending", "Waits for an earlier event", advice=advice)
    if at <= now:
        advice = "It is due. It waits for its turn, or an attempt is under way."
        return Next("wait", "pending", "Next attempt soon", advice=advice)
    return Next("wait", "pending", "Next attempt", due)


def _obstacle(destination: Mapping[str, Any] | None) -> Next | None:
    """Return why no delivery to a destination can start now; None if one can."""
    if destination is None:
        return Next("warn", "open", "Waits: the destination is gone", advice=_NO_DESTINATION)
    if destination["paused"]:
        return Next("warn", "paused", "Waits: the destination is paused", advice="Resume the destination.")
    if not destination["ready"]:
        advice = f"{destination['not_ready']}. Correct it and reload."
        return Next("warn", "open", "Waits: the destination is not ready", advice=advice)
    if destination["breaker"] == "open":
        words = "Waits: the circuit breaker is open, next probe"
        failed = f"{events(destination['failures'])} failed since the last success."
        advice = f"{failed} Until a probe succeeds, one event at a time is tried."
        return Next("warn", "open", words, destination["next_probe"], advice=advice)
    return None
