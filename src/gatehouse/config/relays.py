"""Problems of sources that answer with a destination's reply: one destination has to be there to give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.config.readable import at, mappings, read, texts
from gatehouse.config.texts import parse_text
from gatehouse.config.words import shown
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.errors import Problem

_ACCEPT = "or respond: accept"


def relay_problems(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    """Find what stands between a source and the reply that it is to relay."""
    for name, source in mappings(data.get("sources")).items():
        if source.get("respond") == "relay":
            for message, hint in _reasons(name, source, data):
                yield document.problem(("sources", name, "respond"), message, f"{hint}, {_ACCEPT}")


def _reasons(name: str, source: dict[str, Any], data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if at(source, "event", "split") is not None:
        yield "the events of a batch would have a reply each", "leave out event.split"
    destinations, routes = mappings(data.get("destinations")), data.get("routes", ())
    if not isinstance(routes, tuple):
        return
    reached = _reached(name, routes)
    if len(reached) != 1:
        found = ", ".join(map(shown, reached)) or "no destination"
        yield f"its routes lead to {found}", "a reply comes from exactly one destination"
    for destination in reached:
        yield from _unfit(destination, destinations.get(destination, {}))


def _unfit(name: str, destination: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if destination.get("format") == "cloudevents-batch":
        yield f"{name} takes batches, and replies to all of one", "another format there"
    if destination.get("order_by") is not None:
        yield f"{name} is ordered, and a reply can't wait for its turn", "no order_by there"


def _reached(source: str, routes: tuple[Any, ...]) -> list[str]:
    """Return the destinations that any event of a source may go to."""
    return list(
        dict.fromkeys(
            to
            for route in routes
            if any(_fits(pattern, source) for _, pattern in texts(at(route, "from"), ()))
            for _, to in texts(at(route, "to"), ())
        )
    )


def _fits(pattern: str, source: str) -> bool:
    return read(parse_text, pattern) is not None and matches(pattern, source)
