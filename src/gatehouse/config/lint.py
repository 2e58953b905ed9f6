"""Warnings: what loads and would run, and is probably not what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.config.model import NoneConfig
from gatehouse.config.scalars import format_duration
from gatehouse.routing import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.document import YamlDocument
    from gatehouse.config.model import Config, RouteConfig, SourceConfig
    from gatehouse.errors import Problem


def lint(config: Config, document: YamlDocument) -> list[Problem]:
    """Find what deserves a warning, in the order of the file."""
    found = [
        *_sources(config, document),
        *_destinations(config, document),
        *_routes(config, document),
    ]
    return sorted(found, key=lambda problem: problem.line)


def _sources(config: Config, document: YamlDocument) -> Iterator[Problem]:
    for name, source in config.sources.items():
        if not any(_fits(route, name) for route in config.routes):
            message = "no route takes its events: they are stored and not forwarded"
            yield document.problem(("sources", name), message, f"routes: [{{from: {name}, to: […]}}]")
        if any(isinstance(verifier, NoneConfig) for verifier in source.verify):
            message = "nothing is verified: anyone who can reach the path can send"
            yield document.problem(("sources", name, "verify"), message, "verify: {type: hmac, …}")
        yield from _dedupe(name, source, document)


def _dedupe(name: str, source: SourceConfig, document: YamlDocument) -> Iterator[Problem]:
    dedupe, horizon = source.dedupe, source.retry_horizon
    if not dedupe.by:
        message = "no dedupe keys: a retry is a new event"
        yield document.problem(("sources", name, "dedupe"), message, 'dedupe: {by: ["{body:id}"]}')
    elif horizon is not None and dedupe.window < horizon:
        shown = format_duration(horizon)
        message = (
            f"shorter than the provider's retry horizon of {shown}: its last retries would be new events"
        )
        yield document.problem(("sources", name, "dedupe", "window"), message, f"at least {shown}")


def _destinations(config: Config, document: YamlDocument) -> Iterator[Problem]:
    reached = {name for route in config.routes for name in route.to}
    for name in config.destinations:
        if name not in reached:
            message = "no route leads to it"
            yield document.problem(("destinations", name), message, f"routes: [{{from: …, to: [{name}]}}]")


def _routes(config: Config, document: YamlDocument) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        taken = [source for name, source in config.sources.items() if _fits(route, name)]
        if not taken or not all(source.types for source in taken):
            continue  # a source that documents no types may send any
        known = [event_type for source in taken for event_type in source.types]
        for pattern in route.types:
            if not any(matches(pattern, event_type) or matches(event_type, pattern) for event_type in known):
                message = f'"{pattern}" fits no documented type'
                hint = f"these sources send: {', '.join(dict.fromkeys(known))}"
                yield document.problem(("routes", index, "types"), message, hint)


def _fits(route: RouteConfig, source: str) -> bool:
    return any(matches(pattern, source) for pattern in route.sources)
