"""The output of the demo, for a terminal of any width or as plain text."""

from __future__ import annotations

import contextlib
import os
import shlex
import textwrap
import time
from typing import TYPE_CHECKING

import msgspec
from rich import box
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gatehouse import __version__
from gatehouse.demo.cases import KINDS, counter_increases
from gatehouse.telemetry.terminal import wants_color

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gatehouse.demo.app import Received
    from gatehouse.demo.cases import Case, Kind, Results, Row
    from gatehouse.demo.trouble import Trouble
    from gatehouse.demo.workspace import Workspace

_INTRODUCTION = (
    "This is a real gateway with its SQLite store, and a real app behind it. Each provider sends its "
    "documented example, signed as that provider signs; the same request again, as a retry; the request "
    "with one byte changed; and a request that is too old, or was captured and is sent again with a new "
    "delivery id. Every answer, event and time below is real."
)
#: The maximum width of prose, in cells, however wide the terminal is.
_MAX_PROSE_WIDTH = 100
#: The headers of a received event that are shown.
_SHOWN_HEADERS = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature", "gatehouse-attempt")
#: The provider whose event is shown in full.
_SHOWN_PROVIDER = "mando"

#: The width from which there is room between the columns of the table, in cells.
_WIDE = 96
_HEADINGS: dict[Kind, str] = {
    "example": "documented\nexample",
    "retry": "the same\nagain",
    "forged": "one byte\nchanged",
    "old": "stale or\nreplayed",
}
_COLORS = {"accepted": "green", "duplicate": "cyan", "refused": "yellow"}


class Screen:
    """Writes to a terminal or a file."""

    def __init__(self, *, color: bool) -> None:
        is_plain = not color or wants_color(os.environ) is False
        self._console = Console(color_system=None if is_plain else "auto", highlight=False)

    def show_introduction(self) -> None:
        """Say what the demo does."""
        self._line(Text.assemble(("Gatehouse ", "bold"), f"{__version__} demo"))
        for line in textwrap.wrap(_INTRODUCTION, min(self._console.width, _MAX_PROSE_WIDTH) - 1):
            self._line(line)
        self._line()

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[list[Row]], None]]:
        """Show the table while it fills on a terminal, and once at the end elsewhere."""
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

    def show_results(self, results: Results) -> None:
        """Show one event as the app received it, the counters that increased, and the verdict."""
        self._line()
        row = next((row for row in results.rows if row.source == _SHOWN_PROVIDER and row.received), None)
        if row and row.received:
            self._heading(f"What the app received for {row.title}'s example")
            self._show_event(row.received)
        self._heading("Metrics that changed, summed over sources")
        self._show_metrics(results)
        self._show_verdict(results)

    def show_addresses(self, server: str, operator: str, app: str, workspace: Workspace) -> None:
        """Show where the listeners and files are."""
        self._heading("Addresses and files")
        for name, where in (
            ("for providers", f"{server}/webhooks/<source>"),
            ("metrics and health", f"{operator}/metrics  /healthz  /readyz"),
            ("the app", f"{app}/events"),
            ("config, secrets, store", f"{workspace.directory}/"),
            ("log", str(workspace.log)),
        ):
            self._line(Text.assemble(f"  {name:<24}", (where, "cyan")))
        self._line()

    def show_commands(self, program: str, operator: str, workspace: Workspace) -> None:
        """Show commands to paste into another shell."""
        config = shlex.quote(str(workspace.config))
        self._heading("Try these commands in another shell")
        for command in (
            f"{program} send mando -c {config} --duplicate",
            f"{program} send mandato -c {config} --type invoice.rejected --count 5",
            f"{program} sign getpeppr -c {config}",
            f"curl -s {operator}/metrics | grep ^gatehouse_requests_total | grep -v ' 0.0$'",
            f"tail -f {shlex.quote(str(workspace.log))}",
        ):
            self._line(f"  {command}", style="cyan")
        self._line()

    def show_page(self, operator: str, trouble: Trouble) -> None:
        """Show what is on the operator page, and its address."""
        self._show_differences(trouble.differences)
        self._heading("The operator page shows what this gateway did, and what needs an operator:")
        for what, path in trouble.places:
            self._line(Text.assemble(f"  {what:<40}", (f"{operator}{path}", "cyan")))
        self._line()
        self._line("The events that the app receives from now on are shown below.")
        address = Text.assemble("The operator page: ", (f"{operator}/", "cyan"), " (Ctrl-C ends the demo)")
        self._line(address, style="bold")

    def show_hint(self, program: str) -> None:
        """Say how to keep the demo running."""
        self._line(f"The demo has ended. To look at the operator page, run: {program} demo --stay")

    def show_received(self, received: Received) -> None:
        """Show an event that another command sent."""
        signature = "signature ok" if received.is_signed else "bad signature"
        clock = time.strftime("%H:%M:%S")
        self._line(f"  {clock}  {received.event_id}  {signature}  {_describe(received)}")

    def show_end(self, workspace: Workspace) -> None:
        """Say that the demo has stopped and removed its files."""
        self._line(f"\nStopped. {workspace.directory} is removed.")

    def _show_event(self, received: Received) -> None:
        for name in _SHOWN_HEADERS:
            if name in received.headers:
                self._line(Text.assemble((f"  {name}: ", "dim"), received.headers[name]))
        # Formatted as text, without parsing: numbers keep every digit.
        body = msgspec.json.format(received.body, indent=2).decode()
        self._line(JSONHighlighter()(textwrap.indent(body, "  ")))
        self._line()

    def _show_metrics(self, results: Results) -> None:
        increases = counter_increases(results.before, results.after)
        width = max(map(len, [*increases, *results.after.gauges]), default=0)
        for name, increase in increases.items():
            self._line(Text.assemble(f"  {name:<{width}}  ", (f"{increase:>+4.0f}", "green")))
        for name, value in results.after.gauges.items():
            self._line(f"  {name:<{width}}  {value:>4.0f}", style="dim")
        self._line()

    def _show_verdict(self, results: Results) -> None:
        answers = sum(len(row.answers) for row in results.rows)
        received = sum(row.received is not None for row in results.rows)
        self._show_differences(results.differences)
        if not results.differences:
            text = f"All as expected: {answers} answers, and {received} events at the app, each once."
            self._line(text, style="bold green")
            self._line()

    def _show_differences(self, differences: Sequence[str]) -> None:
        if not differences:
            return
        self._line("Not as expected:", style="bold red")
        for difference in differences:
            self._line(f"  {difference}", style="red")
        self._line()

    def _heading(self, text: str) -> None:
        self._line(text, style="bold")

    def _line(self, content: object = "", style: str | None = None) -> None:
        """Write a line without wrapping: a wrapped command or address can't be pasted."""
        self._console.print(content, style=style, soft_wrap=True, markup=False)


def _describe(received: Received) -> str:
    try:
        event = msgspec.json.decode(received.body)
        return f"{event['type']} from {event['source']}"
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "not an event"


def answer_table(rows: Sequence[Row], width: int) -> Table:
    """Make the table of answers, some of which may be missing. It fits into 80 columns."""
    gap = 2 if width >= _WIDE else 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    table.show_edge = False
    table.add_column("\nprovider", style="bold")
    for kind in KINDS:
        table.add_column(_HEADINGS[kind], no_wrap=True)
    table.add_column("at the\napp in", no_wrap=True)
    for row in rows:
        table.add_row(row.title, *(_answer(row, kind) for kind in KINDS), _delivery(row))
    return table


def _answer(row: Row, kind: Kind) -> Text:
    case = next((case for case in row.cases if case.kind == kind), None)
    answer = row.answers.get(kind)
    if answer is None:
        return Text("…" if case or not row.cases else "—\nsigns no time", style="dim")
    if case is None or not answer.matches(case.expected):
        return Text.assemble((str(answer), "bold red"), (f"\nnot {case.expected}" if case else "", "red"))
    return Text.assemble((str(answer), _color(case)), (f"\n{case.note}" if case.note else "", "dim"))


def _color(case: Case) -> str:
    return _COLORS.get(case.expected.word, "")


def _delivery(row: Row) -> Text:
    if row.received is None:
        return Text("nothing", style="bold red") if row.answers else Text("…", style="dim")
    signature = ("signature ok", "green") if row.received.is_signed else ("bad signature", "bold red")
    return Text.assemble(f"{row.milliseconds:.1f} ms\n", signature)
