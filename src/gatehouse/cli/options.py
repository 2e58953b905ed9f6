"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gatehouse.config.load import LoadedConfig

config_option = click.option(
    "-c",
    "--config",
    "config",
    metavar="FILE",
    help="The config file.  [env: GATEHOUSE_CONFIG; default: ./gateway.yaml]",
)


def load_config(given: str | None) -> LoadedConfig:
    """Load the config that `-c`, GATEHOUSE_CONFIG or the default names. Raises `ConfigError`."""
    from gatehouse.config.load import config_file, load

    return load(config_file(given))
