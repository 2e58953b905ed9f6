"""What the demo shows: for a terminal of any width, and as plain text where there is none."""

from __future__ import annotations

import contextlib
import os
import shlex
import textwrap
import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.text import Text

from gatehouse import __version__
from gatehouse.demo.scrape import moved
from gatehouse.demo.table import answer_table
from gatehouse.telemetry.terminal import wants_color

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatehouse.demo.app import Arrived
    from gatehouse.demo.play import Played, Row
    from gatehouse.demo.workspace import Workspace

_INTRODUCTION = (
    "A real gateway with its SQLite store, and a real app behind it. Each provider sends its documented "
    "example, signed as that provider signs; the very same request again, as a retry; the request with one "
    "byte changed; and one that is too old, or was captured and is sent once more under a new delivery id. "
    "All that is shown below was answered, received or measured just now."
)
#: Lines of prose are no longer than this, however wide the terminal.
_WIDEST_PROSE = 100
#: Which headers of an arrived request are worth a look.
_SHOWN_HEADERS = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature", "gatehouse-attempt")
#: The provider whose event is shown in full.
_SHOWN_EVENT = "mando"


class Screen:
    """Writes to a terminal or a file."""

    def __init__(self, *, color: bool) -> None:
        plain = not color or wants_color(os.environ) is False
        self._console = Console(color_system=None if plain else "auto", highlight=False)

    def introduce(self) -> None:
        """Say what is about to happen."""
        self._line(Text.assemble(("Gatehouse ", "bold"), f"{__version__} demo"))
        for line in textwrap.wrap(_INTRODUCTION, min(self._console.width, _WIDEST_PROSE) - 1):
            self._line(line)
        self._line()

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[list[Row]], None]]:
        """Show the table as it fills; where there is no terminal once, when it is full."""
        width = self._console.width
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, vertical_overflow="visible") as live:
                yield lambda rows: live.update(answer_table(rows, width), refresh=True)
            return
        latest: list[Row] = []

        def keep(rows: list[Row]) -> None:
            latest[:] = rows

        yield keep
        self._console.print(answer_table(latest, width))

    def conclude(self, played: Played) -> None:
        """Show one event as it arrived, the metrics that moved, and the verdict."""
        self._line()
        row = next((row for row in played.rows if row.source == _SHOWN_EVENT and row.arrived), None)
        if row and row.arrived:
            self._heading(f"What the app got for {row.title}'s example")
            self._event(row.arrived)
        self._heading("The metrics that moved, summed over sources")
        self._metrics(played)
        self._verdict(played)

    def addresses(self, server: str, operator: str, app: str, workspace: Workspace) -> None:
        """Say where everything is."""
        self._heading("Where it is")
        for name, where in (
            ("for providers", f"{server}/webhooks/<source>"),
            ("for operators", f"{operator}/metrics  /healthz  /readyz"),
            ("the app", app),
            ("config, secrets, store", f"{workspace.directory}/"),
            ("log", str(workspace.log)),
        ):
            self._line(Text.assemble(f"  {name:<24}", (where, "cyan")))
        self._line()

    def suggest(self, program: str, operator: str, workspace: Workspace) -> None:
        """Give commands to paste into another shell."""
        config = shlex.quote(str(workspace.config))
        self._heading("Try next, from another shell")
        for command in (
            f"{program} send mando -c {config} --duplicate",
            f"{program} send mandato -c {config} --type invoice.rejected --count 5",
            f"{program} sign getpeppr -c {config}",
            f"curl -s {operator}/metrics | grep ^gatehouse_requests_total | grep -v ' 0.0$'",
            f"tail -f {shlex.quote(str(workspace.log))}",
        ):
            self._line(f"  {command}", style="cyan")
        self._line()
        self._heading("Ctrl-C to stop. What reaches the app until then:")

    def arrival(self, arrived: Arrived) -> None:
        """Show an event that someone else sent."""
        signature = "signature ok" if arrived.is_signed else "bad signature"
        clock = time.strftime("%H:%M:%S")
        self._line(f"  {clock}  {arrived.event_id}  {signature}  {_describe(arrived)}")

    def farewell(self, workspace: Workspace) -> None:
        """Say that nothing is left behind."""
        self._line(f"\nStopped; {workspace.directory} is removed.")

    def _event(self, arrived: Arrived) -> None:
        for name in _SHOWN_HEADERS:
            if name in arrived.headers:
                self._line(Text.assemble((f"  {name}: ", "dim"), arrived.headers[name]))
        # Laid out as text, not read and written again: numbers keep every digit.
        body = msgspec.json.format(arrived.body, indent=2).decode()
        self._line(JSONHighlighter()(textwrap.indent(body, "  ")))
        self._line()

    def _metrics(self, played: Played) -> None:
        grown = moved(played.before, played.after)
        width = max(map(len, [*grown, *played.after.levels]), default=0)
        for name, delta in grown.items():
            self._line(Text.assemble(f"  {name:<{width}}  ", (f"{delta:>+4.0f}", "green")))
        for name, level in played.after.levels.items():
            self._line(f"  {name:<{width}}  {level:>4.0f}", style="dim")
        self._line()

    def _verdict(self, played: Played) -> None:
        answers = sum(len(row.answers) for row in played.rows)
        arrivals = sum(row.arrived is not None for row in played.rows)
        if played.differences:
            self._line("Not as it should be:", style="bold red")
            for difference in played.differences:
                self._line(f"  {difference}", style="red")
        else:
            text = f"All as it should be: {answers} answers, and {arrivals} events at the app, each once."
            self._line(text, style="bold green")
        self._line()

    def _heading(self, text: str) -> None:
        self._line(text, style="bold")

    def _line(self, what: object = "", style: str | None = None) -> None:
        """Write without folding: a command or address that is cut in two can't be pasted."""
        self._console.print(what, style=style, soft_wrap=True, markup=False)


def _describe(arrived: Arrived) -> str:
    try:
        event = msgspec.json.decode(arrived.body)
        return f"{event['type']} from {event['source']}"
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "not an event"
