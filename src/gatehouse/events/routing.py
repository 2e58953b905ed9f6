"""Finds the destinations of an event. Routes are compiled once per config."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import RouteConfig

#: The cache is limited because the provider decides how many event types there are.
_REMEMBERED_TYPES = 1024


def compile_routes(routes: Iterable[RouteConfig], source: str) -> Callable[[str], tuple[str, ...]]:
    """Return a function that maps an event type of this source to its destinations, each once."""
    own = _own(routes, source)

    @lru_cache(maxsize=_REMEMBERED_TYPES)
    def destinations(event_type: str) -> tuple[str, ...]:
        found = (
            name
            for route in own
            if any(matches(pattern, event_type) for pattern in route.types)
            for name in route.to
        )
        return tuple(dict.fromkeys(found))

    return destinations


def selecting_routes(
    routes: Iterable[RouteConfig], source: str, event_type: str | None
) -> dict[str, list[int]]:
    """Return the destinations of an event, each with the indexes of the routes that select it.

    Without a type, these are all destinations that events of the source may go to.
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
    return tuple(dict.fromkeys(name for route in _own(routes, source) for name in route.to))


def _own(routes: Iterable[RouteConfig], source: str) -> list[RouteConfig]:
    return [route for route in routes if any(matches(pattern, source) for pattern in route.sources)]
