"""What several commands share: the config option, the SOURCE argument, and how to find what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatehouse.config.load import LoadedConfig
    from gatehouse.errors import GatewayError
    from gatehouse.ingest.source import Source

config_option = click.option(
    "-c",
    "--config",
    "config",
    metavar="FILE",
    type=click.Path(),
    help="The config file.  [env: GATEHOUSE_CONFIG; default: ./gateway.yaml]",
)


def config_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the config file as an argument, for commands that are about nothing else."""
    return click.argument("file", metavar="[FILE]", required=False, type=click.Path())(command)


def chosen_config(file: str | None, option: str | None) -> str | None:
    """Return the config that is named, as an argument or with -c. Raises `click.UsageError` for two."""
    if file is not None and option is not None and file != option:
        raise click.UsageError("name one config: FILE or -c FILE")
    return option if file is None else file


def load_config(given: str | None) -> LoadedConfig:
    """Load the config that `-c`, GATEHOUSE_CONFIG or the default names. Raises `ConfigError`."""
    from gatehouse.config.load import config_file, load

    return load(config_file(given))


def load_source(config: str | None, name: str) -> tuple[Source, LoadedConfig]:
    """Load the config and compile one of its sources. Raises `GatewayError`."""
    from gatehouse.config.secrets import Secrets
    from gatehouse.ingest.source import Source

    loaded = load_config(config)
    settings = loaded.config.sources.get(name)
    if settings is None:
        raise unknown("source", name, loaded.config.sources)
    return Source(name, settings, loaded.config, Secrets(loaded.directory)), loaded


def unknown(kind: str, name: str, known: Iterable[str]) -> GatewayError:
    """Make the error for a name that leads nowhere: it lists those that lead somewhere."""
    from gatehouse.config.hints import expected, shown
    from gatehouse.errors import GatewayError

    hint = expected(name, known).replace("expected one of", "one of")
    return GatewayError(f'unknown {kind} "{shown(name)}"', hint=hint)


def source_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the SOURCE argument, which a shell completes from the config."""
    return click.argument("source", metavar="SOURCE", shell_complete=complete_source)(command)


def complete_destination(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the destinations; nothing when the config does not load."""
    from gatehouse.errors import GatewayError

    try:
        destinations = load_config(ctx.params.get("config")).config.destinations
    except GatewayError:
        return []
    return [name for name in destinations if name.startswith(incomplete)]


def complete_source(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """List the sources; nothing when the config does not load, since a completion can't complain."""
    from gatehouse.errors import GatewayError

    try:
        sources = load_config(ctx.params.get("config")).config.sources
    except GatewayError:
        return []
    return [name for name in sources if name.startswith(incomplete)]
