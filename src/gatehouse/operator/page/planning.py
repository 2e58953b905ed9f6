"""What a plan of a replay or a retry shows, and what its form holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.operator.operation_types import DEFAULT_RATE
from gatehouse.operator.page.selection import fixed
from gatehouse.operator.page.states import State, destination_state
from gatehouse.operator.request_types import EventFilters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatehouse.operator.page.progress import Operations

#: How many selected events a plan takes.
MOST_SELECTED: Final = 50


class Form(NamedTuple):
    """What a person has chosen: which events, where to, and how fast."""

    filters: Mapping[str, str]
    #: The selected events, instead of filters.
    ids: tuple[str, ...]
    #: The destinations, if some are named. Otherwise, events go to those that had them.
    to: tuple[str, ...]
    rate: str
    #: Whether the person has seen the numbers for these destinations.
    is_counted: bool
    #: Whether the person has unchecked every destination.
    is_nowhere: bool
    #: The operation that the person has been told about, and that does not hold them up.
    despite: str

    def body(self, kind: Operations) -> dict[str, Any]:
        """Return the body of a request to the API, without the rate."""
        filters = {
            name: value for name, value in self.filters.items() if kind == "replays" or name != "status"
        }
        return {"filter": filters} | ({"to": list(self.to)} if self.to else {})

    def link(self) -> dict[str, Any]:
        """Return the query of the link to this plan."""
        chosen: dict[str, Any] = {"id": list(self.ids)} if self.ids else dict(self.filters)
        chosen |= {"to": list(self.to)} if self.to else {}
        return chosen | ({"rate": self.rate} if self.rate != DEFAULT_RATE else {})


def read_form(given: Any, now: float) -> Form:  # noqa: ANN401 - a multidict: the query, or a form
    """Read what was chosen from a link or a form.

    A form tells which destinations were checked at first (`was`), and which ones were named for the numbers
    (`counted_to`). Without a change, the same ones are named again.
    """
    fields = {name: str(value) for name, value in given.items()}
    to, was, counted = (_names(given, field) for field in ("to", "was", "counted_to"))
    is_unchanged = "was" in given and sorted(to) == sorted(was)
    return Form(
        filters=fixed(fields, EventFilters.__annotations__, now),
        ids=_names(given, "id"),
        to=counted if is_unchanged else to,
        rate=fields.get("rate", "").strip() or DEFAULT_RATE,
        is_counted=is_unchanged,
        is_nowhere=bool(was) and not to,
        despite=fields.get("despite", ""),
    )


def _names(given: Any, field: str) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(dict.fromkeys(str(value) for value in given.getall(field, []) if value))


def find_same(operations: Iterable[Mapping[str, Any]], form: Form, kind: Operations) -> dict[str, Any] | None:
    """Return an operation that does what a form asks for: it runs, or began with the same form.

    Each form has an `until` of its own, so two forms with the same one are the same form, sent twice.
    """
    wanted = form.body(kind)
    until = wanted["filter"].pop("until", None)
    for operation in operations:
        filters = dict(operation["filter"])
        is_same_form = filters.pop("until", None) == until
        if filters != wanted["filter"] or sorted(operation["to"] or ()) != sorted(form.to):
            continue
        if (is_same_form or operation["state"] == "running") and operation["id"] != form.despite:
            return dict(operation)
    return None


class Target(NamedTuple):
    """A destination that can be chosen."""

    name: str
    is_chosen: bool
    #: How many deliveries it gets; None if that was not counted.
    deliveries: int | None
    state: State
    #: Why deliveries wait; empty if they don't.
    waits: str


def targets(
    destinations: Sequence[Mapping[str, Any]],
    counted: Mapping[str, int],
    form: Form,
    kind: Operations,
    now: float,
) -> list[Target]:
    """Return the destinations that can be chosen, with those first that get something.

    A replay can go to any destination of the config, and a dead letter only to its own.
    """
    only, chosen = form.filters.get("destination"), form.to
    if kind == "retries":
        destinations = [
            one
            for one in destinations
            if one["name"] in counted or (one["dead"] and only in (None, one["name"]))
        ]
    found = [
        Target(
            name=one["name"],
            is_chosen=one["name"] in chosen if chosen else one["name"] in counted,
            deliveries=counted.get(one["name"]),
            state=destination_state(one, now),
            waits=_waits(one),
        )
        for one in destinations
    ]
    return sorted(found, key=lambda target: not target.deliveries)


def _waits(destination: Mapping[str, Any]) -> str:
    name = destination["name"]
    if destination["paused"]:
        return f"{name} is paused. Its deliveries wait until it is resumed."
    if not destination["ready"]:
        return (
            f"{name} is not ready: {destination['not_ready']}. Its deliveries wait until that is corrected."
        )
    if destination["breaker"] == "open":
        return f"The circuit breaker of {name} is open. Its deliveries wait until a probe succeeds."
    return ""


def replayed_in_words(asked: int, deliveries: int, left_alone: int, problems: Sequence[str]) -> str:
    """Say what the replay of selected events did. `problems` are those of the events that it left out."""
    events = f"{asked - len(problems)} of {asked} events"
    parts = [f"{events} replayed: {deliveries} {'delivery is' if deliveries == 1 else 'deliveries are'} due."]
    if left_alone:
        parts.append(f"{left_alone} left alone, because they were pending or had just been replayed.")
    if problems:
        parts.append(f"{len(problems)} not replayed: {problems[0]}.")
    return " ".join(parts)
