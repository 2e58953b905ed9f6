"""The command `store backup`: copies the SQLite store of a gateway while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gatehouse.cli.options import config_option, load_config

_MIB = 1024 * 1024


@click.command("backup")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def backup(file: Path, as_json: bool, config: str | None) -> None:
    """Copy the config's SQLite store to FILE, while the gateway runs.

    The copy has everything that was committed when it began. It is checked and fsynced before it gets its
    name. FILE must not exist. It is written in steps with pauses, so that the gateway can write meanwhile.

    For PostgreSQL, use pg_dump.
    """
    from gatehouse.cli.progress import Progress
    from gatehouse.store.backends import sqlite_path
    from gatehouse.store.sqlite.backup import back_up

    loaded = load_config(config)
    path = sqlite_path(loaded.config.store.url, loaded.directory)
    if path is None:
        raise click.UsageError(
            "the store of the config is PostgreSQL: back it up with pg_dump --format=custom --file=FILE"
        )
    with Progress() as progress:
        size = back_up(path, file, lambda done, total: progress.report("pages", done, total))
    if as_json:
        click.echo(json.dumps({"store": str(path), "file": str(file), "bytes": size}))
    else:
        click.echo(f"{path} is copied to {file} ({size / _MIB:,.1f} MiB) and checked")
