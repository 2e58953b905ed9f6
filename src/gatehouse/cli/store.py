"""The command `store` with `info`, `backup`, `migrate` and `copy`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gatehouse.cli.options import config_option, load_config
from gatehouse.cli.output import table
from gatehouse.cli.store_backup import backup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gatehouse.config.load import LoadedConfig
    from gatehouse.store.copying.comparison import Comparison
    from gatehouse.store.copying.run import Copy
    from gatehouse.store.schema import StoreInfo

#: How many names of rows a list shows.
_MAX_NAMED = 20
_MIB = 1024 * 1024


@click.group("store")
def store() -> None:
    """Show the store, back it up, migrate it, or copy it to PostgreSQL."""


store.add_command(backup)


@store.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def info(as_json: bool, config: str | None) -> None:
    """Show what the config's store holds. A gateway may be running on it.

    Nothing is changed. In PostgreSQL, the rows of large tables are estimated. Times are in UTC.
    """
    import asyncio

    import msgspec

    from gatehouse.store import backends

    loaded = load_config(config)
    found = asyncio.run(backends.describe_store(loaded.config.store, loaded.directory, _password(loaded)))
    lines = [json.dumps(msgspec.to_builtins(found), indent=2)] if as_json else _info(found)
    for line in lines:
        click.echo(line)


@store.command("migrate")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def migrate(as_json: bool, config: str | None) -> None:
    """Migrate the config's store to the schema of this version.

    `serve` does this too. Stop the gateway first if the store is SQLite. With PostgreSQL, gateways may run
    if all of them know the new schema. A store that is up to date is not changed.
    """
    import asyncio

    from gatehouse.store import backends

    loaded = load_config(config)
    migrating = backends.migrate_store(loaded.config.store, loaded.directory, _password(loaded))
    place, before, after = asyncio.run(migrating)
    if as_json:
        click.echo(json.dumps({"store": str(place), "before": before, "after": after}))
    elif before == after:
        click.echo(f"{place}: already at schema version {after}")
    else:
        start = f"from version {before} " if before else ""
        click.echo(f"{place}: migrated {start}to schema version {after}")


@store.command("copy")
@click.option(
    "--from",
    "source",
    metavar="URL",
    required=True,
    help="URL of the SQLite store: sqlite:////var/lib/gatehouse/gatehouse.db."
    " With three slashes, the path is relative to the config.",
)
@click.option(
    "--into-used-store",
    is_flag=True,
    help="Copy into a database that already holds events; its own rows stay.",
)
@config_option
def copy(source: str, into_used_store: bool, config: str | None) -> None:
    """Copy a SQLite store into the config's PostgreSQL store.

    Stop the gateway first. The command copies events, deliveries, dead letters, dedupe keys, pauses and audit
    entries, and then compares them row by row. If it was interrupted, run it again: it continues where it
    stopped.

    Exits 0 if everything was copied, and 1 if something differs. The SQLite store is not changed.
    """
    import asyncio

    from gatehouse.cli.progress import Progress
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
    for line in _copied(result, str(path)):
        click.echo(line)
    if not result.comparison.is_equal:
        raise StoreError(
            "the copy differs from the SQLite store",
            hint="keep running the gateway on the SQLite store, which was not changed",
        )


def _sqlite(url: str, loaded: LoadedConfig) -> Path:
    from gatehouse.store.backends import sqlite_path

    path = sqlite_path(url, loaded.directory)
    if path is None:
        raise click.UsageError("--from takes the URL of a SQLite store: sqlite:////path/to/gatehouse.db")
    return path


def _password(loaded: LoadedConfig) -> str | None:
    """Return the store's password, or None if the config has none. Raises `StoreError`."""
    from gatehouse.config.secrets import SecretError, Secrets
    from gatehouse.errors import StoreError

    reference = loaded.config.store.password
    if reference is None:
        return None
    try:
        return Secrets(loaded.directory).resolve(reference).decode()
    except SecretError as error:
        reason = str(error)
    except UnicodeDecodeError:
        reason = f"{reference} is not UTF-8"
    raise StoreError(
        f"store.password: {reason}",
        hint="set the password where this command runs: the store can't be opened without it",
    )


def _info(found: StoreInfo) -> Iterator[str]:
    estimated = " (large tables estimated)" if found.estimated else ""
    yield f"{'store':<16}{found.place}"
    yield f"{'backend':<16}{found.backend}"
    yield f"{'schema version':<16}{_version(found)}"
    yield f"{'size':<16}{found.bytes / _MIB:,.1f} MiB"
    for name, number in found.rows.items():
        yield f"{name.replace('_', ' ').replace('paused destinations', 'paused'):<16}{number:,}{estimated}"
    by_status = ", ".join(f"{number:,} {status}" for status, number in found.deliveries.items())
    yield f"{'by status':<16}{by_status}"
    yield f"{'oldest pending':<16}{_age(found.oldest_pending)}"


def _version(found: StoreInfo) -> str:
    version, newest = found.schema_version, found.newest_schema_version
    if version == newest:
        return f"{version}, up to date"
    if version > newest:
        return f"{version}, from a newer Gatehouse: this one knows versions up to {newest}"
    action = f"gatehouse store migrate, or serve, migrates it to {newest}"
    return f"{version}; {action}" if version else f"none yet; {action}"


def _age(received: float | None) -> str:
    if received is None:
        return "none"
    at = datetime.fromtimestamp(int(received), UTC).isoformat().replace("+00:00", "Z")
    return f"received {at}, {max(0, int(time.time() - received)):,} s ago"


def _copied(result: Copy, path: str) -> Iterator[str]:
    """Describe the result of a copy, and the next step."""
    if result.was_finished:
        yield f"{path} is already copied and checked: nothing to do"
        return
    comparison = result.comparison
    yield from _comparison(comparison)
    yield from _remarks(comparison)
    if comparison.is_equal:
        yield "Everything is copied, and the config already names PostgreSQL: start the gateway."
        yield "Keep the SQLite file until you have seen the gateway deliver. Do not run a gateway on it:"
        yield "it would deliver twice."
    else:
        yield from _named("Different rows", comparison.named, comparison.differing.total())


def _comparison(comparison: Comparison) -> Iterator[str]:
    from gatehouse.store.copying.comparison import ROWS

    rows = [
        {
            "rows": name,
            "sqlite": comparison.source[name],
            "postgresql": comparison.target[name],
            "differ": comparison.differing[name],
        }
        for name in ROWS
    ]
    headings = {"rows": "rows", "sqlite": "SQLite", "postgresql": "PostgreSQL", "differ": "differ"}
    return table(rows, headings, uncut=headings)


def _remarks(comparison: Comparison) -> Iterator[str]:
    if comparison.moved_on:
        yield f"A gateway has already continued {comparison.moved_on} of the copied deliveries."
    damaged, left_behind = comparison.damaged, comparison.left_behind
    yield from _named("Damaged in SQLite; copied, but not delivered", damaged, len(damaged))
    yield from _named("Damaged in SQLite, without an id; not copied", left_behind, len(left_behind))


def _named(title: str, names: Sequence[str], number: int) -> Iterator[str]:
    if not number:
        return
    yield f"{title}: {number}"
    yield from (f"  {name}" for name in names[:_MAX_NAMED])
    if number > _MAX_NAMED:
        yield f"  and {number - _MAX_NAMED} more"
