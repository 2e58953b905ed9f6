"""Options and arguments that several commands share, what they load, and what a shell completes for them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.load import LoadedConfig
    from gatehouse.errors import GatewayError
    from gatehouse.ingest.source import Source

#: 9 September 2286 in Unix seconds. Much later times can't be written as a date.
LAST_SECOND = 9_999_999_999

#: How long a completion waits for the running gateway (seconds): a person is typing.
_COMPLETION_TIMEOUT = 1.0
_MAX_COMPLETIONS = 100

config_option = click.option(
    "-c",
    "--config",
    "config",
    metavar="FILE",
    type=click.Path(),
    help="The config file.  [env: GATEHOUSE_CONFIG; default: ./gateway.yaml]",
)
operator_option = click.option(
    "--operator",
    metavar="URL",
    help="URL of the gateway's operator listener.  [default: from the config]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON.")


def config_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the config file as an argument, for commands that need nothing else."""
    return click.argument("file", metavar="[FILE]", required=False, type=click.Path())(command)


def source_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the SOURCE argument, which a shell completes from the config."""
    return click.argument("source", metavar="SOURCE", shell_complete=complete_source)(command)


def destination_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one or more DESTINATION arguments, which a shell completes from the config."""
    return click.argument(
        "destinations", metavar="DESTINATION...", nargs=-1, required=True, shell_complete=complete_destination
    )(command)


def chosen_config(file: str | None, option: str | None) -> str | None:
    """Return the config that the argument or `-c` names. Raises `click.UsageError` if they differ."""
    if file is not None and option is not None and file != option:
        raise click.UsageError("name one config file: FILE or -c FILE")
    return option if file is None else file


def load_config(file: str | None) -> LoadedConfig:
    """Load the config that `-c`, GATEHOUSE_CONFIG or the default names. Raises `ConfigError`."""
    from gatehouse.config.load import load
    from gatehouse.config.location import config_file

    return load(config_file(file))


def load_source(config: str | None, name: str) -> tuple[Source, LoadedConfig]:
    """Load the config and compile one of its sources. Raises `GatewayError`."""
    from gatehouse.config.secrets import Secrets
    from gatehouse.ingest.source import Source

    loaded = load_config(config)
    settings = loaded.config.sources.get(name)
    if settings is None:
        raise unknown_name("source", name, loaded.config.sources)
    return Source(name, settings, loaded.config, Secrets(loaded.directory)), loaded


def unknown_name(kind: str, name: str, known: Iterable[str]) -> GatewayError:
    """Make the error for a name that does not exist. Its hint lists the names that do."""
    from gatehouse.config.hints import escaped
    from gatehouse.errors import GatewayError

    return GatewayError(f'unknown {kind} "{escaped(name)}"', hint=known_names(name, known))


def known_names(name: str, known: Iterable[str]) -> str:
    """Make the hint for a name that does not exist: the nearest name, and the list of all."""
    from gatehouse.config.hints import suggest_name

    return suggest_name(name, known).replace("expected one of", "use one of")


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters that the options set; None for those that they do not set. Named as in the API."""

    destination: str | None
    source: str | None
    type: str | None
    since: str | None
    until: str | None
    reason: str | None
    http_status: int | None

    def given(self) -> dict[str, str]:
        """Return the filters that are set, under their names in the API."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in values.items() if value is not None}

    def check(self, config: str | None) -> None:
        """Raise `GatewayError` for a name that the config does not have.

        Call it only when nothing was found: the store may hold names from an earlier config.
        """
        from gatehouse.errors import ConfigError

        if self.destination is None and self.source is None:
            return
        try:
            loaded = load_config(config)
        except ConfigError:
            return  # with --operator, there may be no config here
        for kind, name, known in (
            ("destination", self.destination, loaded.config.destinations),
            ("source", self.source, loaded.config.sources),
        ):
            if name is not None and name not in known:
                raise unknown_name(kind, name, known)


@dataclass(frozen=True, slots=True)
class EventFilters(Filters):
    """The filters of `gatehouse events`."""

    status: str | None
    external_id: str | None
    subject: str | None
    account: str | None
    contains: str | None


def filter_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the filter options to a command, which gets them as `filters`."""
    return _with_filters(command, Filters, _FILTER_OPTIONS)


def event_filter_options(command: Callable[..., None]) -> Callable[..., Any]:
    """Add the filter options for events to a command, which gets them as `filters`."""
    return _with_filters(command, EventFilters, (*_FILTER_OPTIONS, *_EVENT_FILTER_OPTIONS))


def _with_filters(
    command: Callable[..., None], kind: type[Filters], options: Iterable[Callable[..., Any]]
) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_filters(**given: Any) -> None:  # noqa: ANN401 - click's own
        filters = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(filters=filters, **given)

    decorated: Callable[..., Any] = with_filters
    for option in reversed(tuple(options)):
        decorated = option(decorated)
    return decorated


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--limit` and `--cursor`, for commands that print one page of a list."""
    limit = click.option(
        "--limit",
        type=click.IntRange(1, 500),
        metavar="N",
        default=50,
        show_default=True,
        help="List at most N.",
    )
    cursor = click.option("--cursor", metavar="TEXT", help="Continue an earlier list where it ended.")
    return limit(cursor(command))


def complete_destination(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the config's destinations; none if the config does not load."""
    return _names(ctx, "destinations", incomplete)


def complete_source(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the config's sources; none if the config does not load."""
    return _names(ctx, "sources", incomplete)


def complete_event(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the ids of the newest events; none if no gateway answers."""
    return _ids(ctx, "/api/v1/events", "events", incomplete)


def complete_dead(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the ids of the newest dead letters; none if no gateway answers."""
    return _ids(ctx, "/api/v1/deliveries", "deliveries", incomplete, status="dead")


def _names(ctx: click.Context, part: str, incomplete: str) -> list[str]:
    from gatehouse.errors import GatewayError

    try:
        names = getattr(load_config(ctx.params.get("config")).config, part)
    except GatewayError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _ids(ctx: click.Context, path: str, member: str, incomplete: str, **query: str) -> list[str]:
    import contextlib

    from gatehouse.cli.access import find_access
    from gatehouse.cli.operator_client import fetch, with_query

    filters = {key: ctx.params.get(key) for key in ("source", "destination") if ctx.params.get(key)}
    url = with_query(path, limit=_MAX_COMPLETIONS, **query, **filters)
    # An error message would appear in the line that the person is typing.
    with contextlib.suppress(Exception):
        access = find_access(ctx.params.get("config"), ctx.params.get("operator"))
        rows = fetch(access, url, within=_COMPLETION_TIMEOUT)[member]
        return [row["id"] for row in rows if row["id"].startswith(incomplete)]
    return []


TIME_FORMS = "1h, 2d, today, yesterday, 2026-11-29, RFC 3339 or Unix seconds"
_FILTER_OPTIONS = (
    click.option(
        "--destination",
        metavar="NAME",
        shell_complete=complete_destination,
        help="Only what goes to this destination.",
    ),
    click.option(
        "--source", metavar="NAME", shell_complete=complete_source, help="Only events from this source."
    ),
    click.option("--type", metavar="PATTERN", help="Only these event types, as in routes: invoice.*"),
    click.option(
        "--since", metavar="TIME", help=f"Only events received at this time (UTC) or later: {TIME_FORMS}."
    ),
    click.option("--until", metavar="TIME", help="Only events received before this time."),
    click.option(
        "--reason",
        metavar="REASON",
        help="Only if an attempt of the delivery ended with this reason: timeout, server_error, ….",
    ),
    click.option(
        "--http-status",
        metavar="STATUS",
        type=click.IntRange(100, 599),
        help="Only if the reply to an attempt of the delivery had this HTTP status.",
    ),
)
_EVENT_FILTER_OPTIONS = (
    click.option(
        "--status",
        type=click.Choice(["pending", "delivered", "dead", "discarded"]),
        help="Only events with a delivery of this status.",
    ),
    click.option("--external-id", metavar="ID", help="Only events with this id of the provider."),
    click.option("--subject", metavar="TEXT", help="Only events with this subject."),
    click.option("--account", metavar="TEXT", help="Only events of this account at the provider."),
    click.option(
        "--contains", metavar="TEXT", help="Only events whose body contains TEXT. This reads every body."
    ),
)
