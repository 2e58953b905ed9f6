"""Tries the routes of a source on one event, and says of each route why it takes the event or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from multidict import CIMultiDict

from gatehouse.config.base import format_template
from gatehouse.events.routing import Unreadable, Values, routes_from, takes_type
from gatehouse.language.request import Request
from gatehouse.verify.base import VerifiedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatehouse.config.model import RouteConfig
    from gatehouse.events.event import Event
    from gatehouse.events.reader import EventReader
    from gatehouse.language.conditions import Condition
    from gatehouse.language.scope import Scope
    from gatehouse.language.template import Template

#: So much of a value is shown (characters).
_LONGEST_VALUE = 200
#: So many events of a body are tried.
_MOST_EVENTS = 20


class TriedCondition(NamedTuple):
    """A condition of a route, and the value that an event has for it."""

    template: str
    #: The condition, as in the config and in words.
    entries: tuple[str, ...]
    text: str
    #: The value, shortened; None if it is missing or unreadable.
    value: str | None
    state: Literal["holds", "fails", "unreadable"]

    @property
    def reason(self) -> str:
        """Why the condition does not hold."""
        if self.state == "unreadable":
            return f"{self.template} can't be read"
        found = "missing" if self.value is None else f'"{self.value}"'
        return f"{self.template} is {found}, and the condition is {self.text}"


class GivenRequest(NamedTuple):
    """A request as someone describes it, without a signature."""

    body: bytes
    headers: Iterable[tuple[str, str]] = ()
    #: The type of its events; None to read it from the request.
    event_type: str | None = None


class TriedRoute(NamedTuple):
    """A route of the source of an event."""

    #: Its position in the config.
    position: int
    route: RouteConfig
    takes_type: bool
    #: Empty if the route does not take the type.
    conditions: tuple[TriedCondition, ...]

    @property
    def selected(self) -> bool:
        """Whether the route takes the event."""
        return self.takes_type and all(one.state == "holds" for one in self.conditions)

    @property
    def reasons(self) -> list[str]:
        """Why the route does not take the event. Empty if it does."""
        if not self.takes_type:
            return [f"its types are {', '.join(self.route.types)}"]
        return [one.reason for one in self.conditions if one.state != "holds"]


class TriedEvent(NamedTuple):
    """An event, and the routes of its source."""

    event_type: str
    routes: list[TriedRoute]

    @property
    def destinations(self) -> list[str]:
        """The destinations of the routes that take the event, each once."""
        return list(dict.fromkeys(name for one in self.routes if one.selected for name in one.route.to))


def try_request(
    given: GivenRequest, reader: EventReader, routes: Sequence[RouteConfig], source: str
) -> list[TriedEvent]:
    """Read the first 20 events of a request as the source reads them, and try the routes on each."""
    headers = CIMultiDict(given.headers)
    headers.setdefault("Content-Type", "application/json")
    request = Request("POST", reader.path, "", headers, given.body)
    read = reader.read(VerifiedRequest(request), 0.0, ())[:_MOST_EVENTS]
    events = ((given.event_type or event.type, scope) for event, _, scope in read)
    return [TriedEvent(kind, try_routes(routes, source, kind, scope)) for kind, scope in events]


def try_stored(event: Event, reader: EventReader, routes: Sequence[RouteConfig]) -> TriedEvent:
    """Try the routes on a stored event. Its query, credentials and what is around it are not stored."""
    scope = reader.stored_scope(event)
    return TriedEvent(event.type, try_routes(routes, event.source, event.type, scope))


def try_routes(routes: Iterable[RouteConfig], source: str, event_type: str, scope: Scope) -> list[TriedRoute]:
    """Try each route of a source on an event. A route of another source is left out."""
    values = Values(scope)
    tried = []
    for index, route in enumerate(routes):
        if not routes_from([route], source):
            continue
        takes = takes_type(route, event_type)
        conditions = [_tried(*one, values) for one in route.when.items()] if takes else []
        tried.append(TriedRoute(index, route, takes, tuple(conditions)))
    return tried


def _tried(template: Template, condition: Condition, values: Values) -> TriedCondition:
    value, holds = values.value(template), values.meets(template, condition)
    shown, readable = str(format_template(template)), not isinstance(value, Unreadable)
    return TriedCondition(
        shown,
        condition.entries,
        str(condition),
        _shortened(value) if isinstance(value, str) else None,
        "unreadable" if not readable else "holds" if holds else "fails",
    )


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"
