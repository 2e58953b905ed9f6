"""The table of the demo: each provider, what came of its requests, and what reached the app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from gatehouse.demo.cases import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.demo.cases import Case, Kind
    from gatehouse.demo.play import Row

#: From here on there is room between the columns.
_WIDE = 96
_HEADINGS: dict[Kind, str] = {
    "example": "documented\nexample",
    "retry": "the same\nagain",
    "forged": "one byte\nchanged",
    "old": "stale or\nreplayed",
}
#: Green lets in, cyan knows it already, yellow turns away.
_COLORS = {"accepted": "green", "duplicate": "cyan", "refused": "yellow"}


def answer_table(rows: Sequence[Row], width: int) -> Table:
    """Draw the table, also while answers are still missing. At 80 columns it just fits."""
    gap = 2 if width >= _WIDE else 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    table.show_edge = False
    table.add_column("\nprovider", style="bold")
    for kind in KINDS:
        table.add_column(_HEADINGS[kind], no_wrap=True)
    table.add_column("at the\napp in", no_wrap=True)
    for row in rows:
        table.add_row(row.title, *(_answer(row, kind) for kind in KINDS), _arrival(row))
    return table


def _answer(row: Row, kind: Kind) -> Text:
    case = next((case for case in row.cases if case.kind == kind), None)
    answer = row.answers.get(kind)
    if answer is None:
        return Text("…" if case or not row.cases else "—\nsigns no time", style="dim")
    if case is None or not answer.says_the_same_as(case.expected):
        return Text.assemble((str(answer), "bold red"), (f"\nnot {case.expected}" if case else "", "red"))
    return Text.assemble((str(answer), _color(case)), (f"\n{case.note}" if case.note else "", "dim"))


def _color(case: Case) -> str:
    return _COLORS.get(case.expected.word, "")


def _arrival(row: Row) -> Text:
    if row.arrived is None:
        return Text("nothing", style="bold red") if row.answers else Text("…", style="dim")
    signature = ("signature ok", "green") if row.arrived.is_signed else ("bad signature", "bold red")
    return Text.assemble(f"{row.milliseconds:.1f} ms\n", signature)
