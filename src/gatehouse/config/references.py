"""Problems between the parts of a config: names that lead nowhere, two sources on one path, an open listener.

These look at the data as written, not at the models: a wrong part anywhere hides none of them. What can't be
read is passed over, since the models report it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatehouse.config.destinations import destination_problems
from gatehouse.config.model import OperatorConfig, ServerConfig
from gatehouse.config.places import parse_path
from gatehouse.config.readable import at, mappings, read, texts
from gatehouse.config.relations import source_problems
from gatehouse.config.relays import relay_problems
from gatehouse.config.scalars import Address, Listens, is_loopback, parse_address, parse_listens
from gatehouse.config.stores import store_problems
from gatehouse.config.texts import parse_text
from gatehouse.config.words import expected, shown
from gatehouse.language.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.config.presets import Merged
    from gatehouse.errors import Problem

__all__ = ["is_loopback", "reference_problems", "source_path"]


def source_path(name: str, path: str | None) -> str:
    """Return where a source is served."""
    return path or f"/webhooks/{name}"


def reference_problems(merged: Merged, document: YamlDocument) -> Iterator[Problem]:
    """Find what each part alone can't know."""
    yield from _routes(merged.data, document)
    yield from _paths(merged.data, document)
    yield from _listeners(merged.data, document)
    yield from store_problems(merged.data, document)
    yield from destination_problems(merged.data, document)
    yield from source_problems(merged, document)
    yield from relay_problems(merged.data, document)


def _routes(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    sources, destinations = data.get("sources"), data.get("destinations", {})
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        for where, pattern in texts(at(route, "from"), ("routes", index, "from")):
            if isinstance(sources, dict) and not _fits_any(pattern, sources):
                message = f'no source matches "{shown(pattern)}"'
                yield document.problem(where, message, _several(pattern, sources))
        for where, pattern in texts(at(route, "types"), ("routes", index, "types")):
            if "," in pattern:
                yield document.problem(where, "several patterns in one text", f"a list: {_listed(pattern)}")
        for where, name in texts(at(route, "to"), ("routes", index, "to")):
            if isinstance(destinations, dict) and name not in destinations:
                message = f'unknown destination "{shown(name)}"'
                yield document.problem(where, message, _several(name, destinations))


def _several(given: str, known: dict[str, Any]) -> str:
    """Say how several names are written where they stand in one text."""
    if "," in given and all(_fits_any(name.strip(), known) for name in given.split(",")):
        return f"a list: {_listed(given)}"
    return expected(given, known)


def _listed(given: str) -> str:
    return "[" + ", ".join(shown(name.strip()) for name in given.split(",")) + "]"


def _fits_any(pattern: str, names: dict[str, Any]) -> bool:
    if "*" not in pattern or pattern == "*":
        return pattern in names or (pattern == "*" and bool(names))
    usable = read(parse_text, pattern) is not None
    return not usable or any(matches(pattern, name) for name in names)


def _paths(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, source in mappings(data.get("sources")).items():
        path = read(parse_path, source.get("path"), source_path(name, None))
        if path is None:
            continue
        # Proxies and people add and drop a slash at the end: two sources that differ in it alone are a trap.
        owner = owners.setdefault(path.rstrip("/"), name)
        if owner != name:
            message = f'{shown(path)} is the path of "{shown(owner)}" already'
            hint = "every source has its own path; a slash at the end makes no difference"
            yield document.problem(("sources", name, "path"), message, hint)


def _listeners(data: dict[str, Any], document: YamlDocument) -> Iterator[Problem]:
    server: Listens | None = read(parse_listens, at(data, "server", "listen"), ServerConfig().listen)
    operator: Address | None = read(parse_address, at(data, "operator", "listen"), OperatorConfig().listen)
    if operator is None:
        return
    if not operator.is_loopback and at(data, "operator", "token") is None:
        yield document.problem(
            ("operator", "listen"),
            "the operator listener is not on loopback and has no token",
            "operator: {token: env:GATEHOUSE_OPERATOR_TOKEN}, or listen on 127.0.0.1",
        )
    if server is not None and any(map(operator.overlaps, server.addresses)):
        message = f"both listeners want {operator}"
        yield document.problem(("operator", "listen"), message, "another port, as in 127.0.0.1:9090")
