"""Which destinations an event goes to: pure, and compiled once per config."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.model import RouteConfig

#: Event types come from verified requests, yet how many there are is up to the provider.
_REMEMBERED_TYPES = 1024


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    # Atomic groups: what stands between two stars fits best where it fits first, so there is no way back to
    # try, and a type of a thousand characters costs about a thousand steps, however many stars there are.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Tell whether `*`, which stands for any text, makes `pattern` fit: `invoice.*` fits `invoice.paid`."""
    return _compiled(pattern).fullmatch(text) is not None


def compile_routes(routes: Iterable[RouteConfig], source: str) -> Callable[[str], tuple[str, ...]]:
    """Return the function from an event type of this source to its destinations, each named once."""
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


def reached(routes: Iterable[RouteConfig], source: str) -> tuple[str, ...]:
    """Return every destination that an event of this source may go to, whatever its type."""
    return tuple(dict.fromkeys(name for route in _own(routes, source) for name in route.to))


def _own(routes: Iterable[RouteConfig], source: str) -> list[RouteConfig]:
    return [route for route in routes if any(matches(pattern, source) for pattern in route.sources)]
