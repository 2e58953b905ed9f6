"""Shows the progress of a long command on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

#: Seconds between progress lines where stderr is not a terminal.
_PROGRESS_INTERVAL = 5.0


class Progress:
    """Shows the progress of a copy: bars on a terminal, a line every 5 seconds elsewhere."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, TaskID] = {}
        #: When each part began, and how many rows an earlier run had already copied.
        self._began: dict[str, tuple[float, int]] = {}
        self._last_line_at = 0.0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def report(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` rows of `what` are copied."""
        if self._bars is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total)
            self._bars.update(self._tasks[what], completed=done)
            return
        now = time.monotonic()
        began, before = self._began.setdefault(what, (now, done))
        if now - max(self._last_line_at, began) >= _PROGRESS_INTERVAL:
            self._last_line_at = now
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
