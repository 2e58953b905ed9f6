"""`gatehouse route`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_config, source_argument, unknown

if TYPE_CHECKING:
    from gatehouse.config.load import LoadedConfig


#: A route: its path in the config, the file and the line.
Place = tuple[str, str, int]


@click.command("route")
@source_argument
@click.argument("event_type", metavar="TYPE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def command(source: str, event_type: str, as_json: bool, config: str | None) -> None:
    """Show where events of TYPE from SOURCE go: one destination per line, with the routes that say so."""
    loaded = load_config(config)
    if source not in loaded.config.sources:
        raise unknown("source", source, loaded.config.sources)
    found = _destinations(loaded, source, event_type)
    if as_json:
        _print_json(source, event_type, found)
        return
    width = max(map(len, found), default=0)
    for destination, routes in found.items():
        places = (f"{path} ({file}:{line})" for path, file, line in routes)
        click.echo(f"{destination:<{width}}  {', '.join(places)}")
    if not found:
        click.echo(f"no route takes {event_type} of {source}: stored, delivered nowhere")
    _warn_of_unknown_type(loaded, source, event_type)


def _print_json(source: str, event_type: str, found: dict[str, list[Place]]) -> None:
    import json

    destinations = [
        {
            "name": name,
            "routes": [dict(zip(("path", "file", "line"), place, strict=True)) for place in places],
        }
        for name, places in found.items()
    ]
    answer = {"source": source, "type": event_type, "destinations": destinations}
    click.echo(json.dumps(answer, indent=2))


def _destinations(loaded: LoadedConfig, source: str, event_type: str) -> dict[str, list[Place]]:
    """Find the destinations, each with the routes that lead to it."""
    from gatehouse.events.routing import compile_routes

    found: dict[str, list[Place]] = {}
    for index, route in enumerate(loaded.config.routes):
        line, _ = loaded.document.locate(("routes", index))
        # One route at a time, through the very function that the gateway routes with.
        for destination in compile_routes([route], source)(event_type):
            found.setdefault(destination, []).append((f"routes.{index}", loaded.document.file, line))
    return found


def _warn_of_unknown_type(loaded: LoadedConfig, source: str, event_type: str) -> None:
    from gatehouse.language.patterns import matches

    settings = loaded.config.sources[source]
    if settings.types and not any(matches(known, event_type) for known in settings.types):
        known = ", ".join(settings.types)
        click.echo(f"Warning: {settings.title or source} documents no {event_type}, but: {known}", err=True)
