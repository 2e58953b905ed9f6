"""What `gatehouse store` says: what is in a store, how far a copy is, and what became of it."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import click

from gatehouse.cli.records import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import TaskID

    from gatehouse.store.copying.comparison import Comparison
    from gatehouse.store.copying.run import Copy
    from gatehouse.store.schema import StoreInfo

#: Where no terminal is watched: how often to say how far it is (seconds).
_EVERY = 5.0
_NAMED = 20
_MIB = 1024 * 1024


def described(info: StoreInfo) -> Iterator[str]:
    """Describe a store, a line for each thing."""
    about = " (large tables estimated)" if info.estimated else ""
    yield f"{'store':<16}{info.place}"
    yield f"{'backend':<16}{info.backend}"
    yield f"{'schema version':<16}{_version(info)}"
    yield f"{'size':<16}{info.bytes / _MIB:,.1f} MiB"
    for name, number in info.rows.items():
        yield f"{name.replace('_', ' ').replace('paused destinations', 'paused'):<16}{number:,}{about}"
    by_status = ", ".join(f"{number:,} {status}" for status, number in info.deliveries.items())
    yield f"{'by status':<16}{by_status}"
    yield f"{'oldest pending':<16}{_age(info.oldest_pending)}"


def _version(info: StoreInfo) -> str:
    found, newest = info.schema_version, info.newest_schema_version
    if found == newest:
        return f"{found}, up to date"
    if found > newest:
        return f"{found}, of a newer gatehouse: this one knows versions up to {newest}"
    due = f"{newest} is due: gatehouse store migrate, or serve, brings it there"
    return f"{found}; {due}" if found else f"none yet; {due}"


def _age(received: float | None) -> str:
    if received is None:
        return "none"
    at = datetime.fromtimestamp(int(received), UTC).isoformat().replace("+00:00", "Z")
    return f"received {at}, {max(0, int(time.time() - received)):,} s ago"


class Progress:
    """Says on stderr how far a copy is: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, TaskID] = {}
        #: When each part began, and how much of it an earlier run had done.
        self._began: dict[str, tuple[float, int]] = {}
        self._said_at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def report(self, what: str, done: int, total: int) -> None:
        """Take note of how far it is."""
        if self._bars is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total)
            self._bars.update(self._tasks[what], completed=done)
            return
        now = time.monotonic()
        began, before = self._began.setdefault(what, (now, done))
        if now - max(self._said_at, began) >= _EVERY:
            self._said_at = now
            rate = (done - before) / (now - began)
            click.echo(f"{what}: {done:,} of {total:,}, {rate:,.0f}/s", err=True)


def _bars() -> Any:  # noqa: ANN401 - its type is imported only here
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def copied(copy: Copy, path: str) -> Iterator[str]:
    """Say what became of a copy, and what to do next."""
    if copy.was_finished:
        yield f"{path} was copied and checked before: nothing to do"
        return
    found = copy.comparison
    yield from _table(found)
    yield from _remarks(found)
    if found.is_equal:
        yield "All of it is there. store.url is PostgreSQL already: start the gateway. Keep the SQLite file"
        yield "until you have seen it deliver; a gateway started on it again would deliver twice."
    else:
        yield from _named("Differs", found.named, found.differing.total())


def _table(found: Comparison) -> Iterator[str]:
    from gatehouse.store.copying.comparison import ROWS

    rows = [
        {"rows": name, "sqlite": found.source[name], "postgresql": found.target[name], "differ": differ}
        for name in ROWS
        for differ in (found.differing[name],)
    ]
    heads = {"rows": "rows", "sqlite": "SQLite", "postgresql": "PostgreSQL", "differ": "differ"}
    return table(rows, heads, whole=heads)


def _remarks(found: Comparison) -> Iterator[str]:
    if found.moved_on:
        yield f"A gateway on the database has taken up {found.moved_on} of the deliveries since."
    yield from _named("Damaged before, copied as they are, not delivered", found.damaged, len(found.damaged))
    yield from _named(
        "Damaged before, and without an id to copy them by", found.left_behind, len(found.left_behind)
    )


def _named(what: str, names: Sequence[str], number: int) -> Iterator[str]:
    if not number:
        return
    yield f"{what}: {number}"
    yield from (f"  {name}" for name in names[:_NAMED])
    if number > _NAMED:
        yield f"  and {number - _NAMED} more"
