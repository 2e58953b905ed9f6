"""The command `route`: shows where an event would go, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gatehouse.cli.options import config_option, load_config, load_source, source_argument, unknown_name
from gatehouse.cli.signed_request import parse_headers, read_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatehouse.config.load import LoadedConfig
    from gatehouse.events.route_trial import TriedEvent, TriedRoute


@click.command("route")
@source_argument
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.option(
    "--body",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="The body of a request, for routes with conditions; - for standard input.",
)
@click.option(
    "--header",
    "headers",
    metavar="NAME:VALUE",
    multiple=True,
    callback=parse_headers,
    help="With --body: a header of the request; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def route(
    source: str,
    event_type: str | None,
    body: str | None,
    headers: tuple[tuple[str, str], ...],
    as_json: bool,
    config: str | None,
) -> None:
    """Show which destinations get events of TYPE from SOURCE.

    Each line has a destination, and the routes that lead to it. With --body, the conditions of routes are
    tested too: the command says of each route whether it takes the event, and why not. Without TYPE, it reads
    the type from the body. The body needs no signature.
    """
    if body is not None:
        loaded, events = _try_body(config, source, event_type, body, headers)
        _show_tried(loaded, source, events, as_json=as_json)
        return
    if headers:
        raise click.UsageError("use --header with --body")
    if event_type is None:
        raise click.UsageError("name the TYPE of the event, or its --body")
    loaded = load_config(config)
    if source not in loaded.config.sources:
        raise unknown_name("source", source, loaded.config.sources)
    destinations = _routed_destinations(loaded, source, event_type)
    if as_json:
        _print_json({"source": source, "type": event_type, "destinations": destinations})
        return
    _show_destinations(destinations, source, event_type)
    _warn_of_unknown_type(loaded, source, event_type)


def _routed_destinations(loaded: LoadedConfig, source: str, event_type: str) -> list[dict[str, Any]]:
    """Find the destinations, each with the routes that lead to it."""
    from gatehouse.events.routing import selecting_routes

    selecting = selecting_routes(loaded.config.routes, source, event_type)
    return [
        {"name": name, "routes": [_place(loaded, index) for index in indexes]}
        for name, indexes in selecting.items()
    ]


def _place(loaded: LoadedConfig, index: int) -> dict[str, Any]:
    """Return where a route is, and its conditions."""
    from gatehouse.config.base import format_template

    line, _ = loaded.document.locate(("routes", index))
    when = {
        str(format_template(text)): list(condition.entries)
        for text, condition in loaded.config.routes[index].when.items()
    }
    return {"path": f"routes.{index}", "file": loaded.document.file, "line": line, "when": when}


def _show_destinations(destinations: list[dict[str, Any]], source: str, event_type: str) -> None:
    width = max((len(one["name"]) for one in destinations), default=0)
    for one in destinations:
        click.echo(f"{one['name']:<{width}}  {', '.join(map(_named, one['routes']))}")
    if not destinations:
        click.echo(f"no route matches {event_type} from {source}: stored, not delivered")
    if any(place["when"] for one in destinations for place in one["routes"]):
        click.echo("Note: routes with conditions need the content; test them with --body FILE", err=True)


def _named(place: dict[str, Any]) -> str:
    conditions = ", with conditions" if place["when"] else ""
    return f"{place['path']} ({place['file']}:{place['line']}{conditions})"


def _try_body(
    config: str | None, name: str, event_type: str | None, file: str, headers: tuple[tuple[str, str], ...]
) -> tuple[LoadedConfig, list[TriedEvent]]:
    from gatehouse.events.route_trial import GivenRequest, try_request

    source, loaded = load_source(config, name)
    given = GivenRequest(read_body(file), headers, event_type)
    return loaded, try_request(given, source.reader, loaded.config.routes, name)


def _show_tried(loaded: LoadedConfig, source: str, events: list[TriedEvent], *, as_json: bool) -> None:
    if as_json:
        _print_json({"source": source, "events": [_tried(loaded, event) for event in events]})
        return
    from gatehouse.telemetry.log import clean

    for event in events:
        to = ", ".join(event.destinations) or "no destination: stored, not delivered"
        click.echo(f"{clean(event.event_type)} from {source} to {to}")
        for line in _lines(loaded, event.routes):
            click.echo(f"  {clean(line)}")
        _warn_of_unknown_type(loaded, source, event.event_type)


def _lines(loaded: LoadedConfig, routes: list[TriedRoute]) -> Iterator[str]:
    for one in routes:
        place = _place(loaded, one.position)
        verdict = "takes it" if one.selected else f"does not take it: {'; '.join(one.reasons)}"
        yield f"{place['path']} ({place['file']}:{place['line']})  {verdict}"


def _tried(loaded: LoadedConfig, event: TriedEvent) -> dict[str, Any]:
    routes = [
        {
            **_place(loaded, one.position),
            "to": list(one.route.to),
            "selected": one.selected,
            "reasons": one.reasons,
            "conditions": [
                {
                    "template": condition.template,
                    "condition": list(condition.entries),
                    "value": condition.value,
                    "state": condition.state,
                }
                for condition in one.conditions
            ],
        }
        for one in event.routes
    ]
    return {"type": event.event_type, "destinations": event.destinations, "routes": routes}


def _print_json(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2))


def _warn_of_unknown_type(loaded: LoadedConfig, source: str, event_type: str) -> None:
    from gatehouse.events.event import UNREADABLE
    from gatehouse.language.patterns import matches
    from gatehouse.telemetry.log import clean

    settings = loaded.config.sources[source]
    known_types = (*settings.types, UNREADABLE)
    if settings.types and not any(matches(known, event_type) for known in known_types):
        known, name = ", ".join(settings.types), settings.title or source
        click.echo(f"Warning: {name} does not document {clean(event_type)}, only: {known}", err=True)
