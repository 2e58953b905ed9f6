"""Finds the destinations of an event. Routes are compiled once per config."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import RouteConfig
    from gatehouse.language.conditions import Condition
    from gatehouse.language.scope import Scope
    from gatehouse.language.template import Template

#: The cache is limited because the provider decides how many event types there are.
_REMEMBERED_TYPES = 1024


def compile_routes(routes: Iterable[RouteConfig], source: str) -> Callable[[str], tuple[str, ...]]:
    """Return a function that maps an event type of this source to its destinations, each once.

    It ignores `when`. If a route of the source has conditions, use `compile_conditions` instead.
    """
    own = routes_from(routes, source)

    @lru_cache(maxsize=_REMEMBERED_TYPES)
    def destinations(event_type: str) -> tuple[str, ...]:
        found = (name for route in own if takes_type(route, event_type) for name in route.to)
        return tuple(dict.fromkeys(found))

    return destinations


class Unreadable(Enum):
    """Stands for a value that cannot be read, such as one in a body that is not JSON."""

    VALUE = "unreadable"


#: Templates, and the conditions for their values.
Conditions = Sequence[tuple["Template", "Condition"]]


def compile_conditions(
    routes: Iterable[RouteConfig], source: str
) -> Callable[[str, Scope], tuple[str, ...]] | None:
    """Return a function that maps an event of this source to its destinations, each once.

    The function takes the type and the scope of the event, and never raises. Returns None if no route of the
    source has conditions, because the type is enough then.
    """
    own = routes_from(routes, source)
    if not any(route.when for route in own):
        return None
    shared: dict[Template, Template] = {}
    compiled = [
        (route, [(shared.setdefault(text, text), condition) for text, condition in route.when.items()])
        for route in own
    ]

    @lru_cache(maxsize=_REMEMBERED_TYPES)
    def candidates(event_type: str) -> tuple[tuple[Conditions, tuple[str, ...]], ...]:
        return tuple((when, route.to) for route, when in compiled if takes_type(route, event_type))

    def destinations(event_type: str, scope: Scope) -> tuple[str, ...]:
        values = Values(scope)
        found = (name for when, to in candidates(event_type) if values.meet(when) for name in to)
        return tuple(dict.fromkeys(found))

    return destinations


class Values:
    """The values that the conditions of routes read from one event. Each template object is resolved once."""

    __slots__ = ("_read", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        #: By the identity of the template, because its hash takes longer than most values.
        self._read: dict[int, str | Unreadable | None] = {}

    def meet(self, when: Conditions) -> bool:
        """Return whether all conditions hold. Stops at the first that does not."""
        return all(self.meets(template, condition) for template, condition in when)

    def meets(self, template: Template, condition: Condition) -> bool:
        """Return whether a condition holds. No condition holds for an unreadable value."""
        value = self.value(template)
        return value is not Unreadable.VALUE and condition.holds(value)

    def value(self, template: Template) -> str | Unreadable | None:
        """Return the value of a template; None if it is missing."""
        key = id(template)
        if key not in self._read:
            self._read[key] = _value(template, self._scope)
        return self._read[key]


def _value(template: Template, scope: Scope) -> str | Unreadable | None:
    try:
        resolved = template.render(scope)
        return None if resolved is None else resolved.decode()
    except ValueError:  # malformed documents, and text that is not UTF-8
        return Unreadable.VALUE


def selecting_routes(
    routes: Iterable[RouteConfig], source: str, event_type: str | None
) -> dict[str, list[int]]:
    """Return the destinations of an event, each with the indexes of the routes that select it.

    Without a type, these are all destinations that events of the source may go to. Conditions are ignored.
    """
    found: dict[str, list[int]] = {}
    for index, route in enumerate(routes):
        # One route at a time, with the function that is used for events.
        selected = (
            reachable_destinations([route], source)
            if event_type is None
            else compile_routes([route], source)(event_type)
        )
        for name in selected:
            found.setdefault(name, []).append(index)
    return found


def reachable_destinations(routes: Iterable[RouteConfig], source: str) -> tuple[str, ...]:
    """Return every destination that events of this source may go to."""
    return tuple(dict.fromkeys(name for route in routes_from(routes, source) for name in route.to))


def routes_from(routes: Iterable[RouteConfig], source: str) -> list[RouteConfig]:
    """Return the routes of a source."""
    return [route for route in routes if any(matches(pattern, source) for pattern in route.sources)]


def takes_type(route: RouteConfig, event_type: str) -> bool:
    """Return whether a route takes events of this type, if its conditions hold."""
    return any(matches(pattern, event_type) for pattern in route.types)
