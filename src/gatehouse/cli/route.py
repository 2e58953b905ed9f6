"""`gatehouse route`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_config, source_argument, unknown

if TYPE_CHECKING:
    from gatehouse.config.load import LoadedConfig


@click.command("route")
@source_argument
@click.argument("event_type", metavar="TYPE")
@config_option
def command(source: str, event_type: str, config: str | None) -> None:
    """Show where events of TYPE from SOURCE go: one destination per line, with the routes that say so."""
    loaded = load_config(config)
    if source not in loaded.config.sources:
        raise unknown("source", source, loaded.config.sources)
    found = _destinations(loaded, source, event_type)
    width = max(map(len, found), default=0)
    for destination, routes in found.items():
        click.echo(f"{destination:<{width}}  {', '.join(routes)}")
    if not found:
        click.echo(f"no route takes {event_type} of {source}: stored, delivered nowhere")
    _warn_of_unknown_type(loaded, source, event_type)


def _destinations(loaded: LoadedConfig, source: str, event_type: str) -> dict[str, list[str]]:
    """Find the destinations, each with the routes that lead to it."""
    from gatehouse.routing import compile_routes

    found: dict[str, list[str]] = {}
    for index, route in enumerate(loaded.config.routes):
        line, _ = loaded.document.locate(("routes", index))
        # One route at a time, through the very function that the gateway routes with.
        for destination in compile_routes([route], source)(event_type):
            place = f"routes.{index} ({loaded.document.file}:{line})"
            found.setdefault(destination, []).append(place)
    return found


def _warn_of_unknown_type(loaded: LoadedConfig, source: str, event_type: str) -> None:
    from gatehouse.routing import matches

    settings = loaded.config.sources[source]
    if settings.types and not any(matches(known, event_type) for known in settings.types):
        known = ", ".join(settings.types)
        click.echo(f"Warning: {settings.title or source} documents no {event_type}, but: {known}", err=True)
