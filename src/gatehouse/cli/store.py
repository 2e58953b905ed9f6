"""`gatehouse store`: `info`, `migrate` and `copy`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_config

if TYPE_CHECKING:
    from pathlib import Path

    from gatehouse.config.load import LoadedConfig


@click.group("store")
def command() -> None:
    """Look at the store, bring it up to date, or move it to PostgreSQL."""


@command.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def info(as_json: bool, config: str | None) -> None:
    """Say what is in the store of the config, also while a gateway runs on it.

    Nothing is changed. In PostgreSQL large tables are estimated. Times are UTC.
    """
    import asyncio

    import msgspec

    from gatehouse.cli.store_texts import described
    from gatehouse.store import backends

    loaded = load_config(config)
    found = asyncio.run(backends.describe_store(loaded.config.store, loaded.directory, _password(loaded)))
    lines = [json.dumps(msgspec.to_builtins(found), indent=2)] if as_json else described(found)
    for line in lines:
        click.echo(line)


@command.command("migrate")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def migrate(as_json: bool, config: str | None) -> None:
    """Bring the store of the config to the schema of this version.

    `serve` does so, too. A SQLite store must have no gateway running on it; PostgreSQL may, as long as all
    of them know the new schema. A store that is up to date is left alone.
    """
    import asyncio

    from gatehouse.store import backends

    loaded = load_config(config)
    migrating = backends.migrate_store(loaded.config.store, loaded.directory, _password(loaded))
    place, before, after = asyncio.run(migrating)
    if as_json:
        click.echo(json.dumps({"store": str(place), "before": before, "after": after}))
    elif before == after:
        click.echo(f"{place}: schema version {after} already")
    else:
        was = f"from version {before} " if before else ""
        click.echo(f"{place}: migrated {was}to schema version {after}")


@command.command("copy")
@click.option(
    "--from",
    "source",
    metavar="URL",
    required=True,
    help="The SQLite store: sqlite:////var/lib/gatehouse/gatehouse.db; with three slashes beside the config.",
)
@click.option(
    "--into-used-store", is_flag=True, help="Add to a database that holds events; what it holds wins."
)
@config_option
def copy(source: str, into_used_store: bool, config: str | None) -> None:
    """Copy a SQLite store into the PostgreSQL database that the config names as its store.

    Stop the gateway first. Events, deliveries, dead letters, dedupe keys and pauses are copied and then
    compared, row by row. After an interruption the same command goes on where it was.

    Exits 0 when all is there and 1 when something differs. The SQLite store is left as it is.
    """
    import asyncio

    from gatehouse.cli.store_texts import Progress, copied
    from gatehouse.errors import StoreError
    from gatehouse.store import backends

    loaded = load_config(config)
    path = _sqlite(source, loaded)
    with Progress() as progress:
        copying = backends.copy_into_store(
            path,
            loaded.config.store,
            _password(loaded),
            into_used_store=into_used_store,
            report=progress.report,
        )
        result = asyncio.run(copying)
    for line in copied(result, str(path)):
        click.echo(line)
    if not result.comparison.is_equal:
        raise StoreError(
            "the copy is not what it was made of", hint="the SQLite store is as it was: go on with that one"
        )


def _sqlite(url: str, loaded: LoadedConfig) -> Path:
    from gatehouse.store.backends import sqlite_path

    path = sqlite_path(url, loaded.directory)
    if path is None:
        raise click.UsageError("--from takes the URL of a SQLite store: sqlite:////path/to/gatehouse.db")
    return path


def _password(loaded: LoadedConfig) -> str | None:
    """Look the password up, if there is one."""
    from gatehouse.config.secrets import SecretError, Secrets
    from gatehouse.errors import StoreError

    reference = loaded.config.store.password
    if reference is None:
        return None
    try:
        return Secrets(loaded.directory).resolve(reference).decode()
    except SecretError as error:
        why = str(error)
    except UnicodeDecodeError:
        why = f"{reference} is not UTF-8"
    raise StoreError(f"store.password: {why}", hint="the store can't be opened without it")
