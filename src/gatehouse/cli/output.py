"""Writes what the operator API returns as text for people: tables, pages of a list, and safe strings."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The exit code of a command that Ctrl-C ended: 128 and the number of SIGINT.
INTERRUPTED: Final = 130
#: The width of a table on a terminal, in cells.
_WIDTH = 100
_GAP = "  "


def visible(text: str) -> str:
    r"""Escape characters that a terminal would act on or not show: `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    # This also escapes a lone surrogate, which can't be encoded as UTF-8.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def to_seconds(time: str) -> str:
    """Cut the fraction of a second off a time of the API."""
    return time.partition(".")[0].removesuffix("Z") + "Z"


def last_outcome(delivery: dict[str, Any]) -> str:
    """Describe the last outcome of a delivery: its reason, and the HTTP status if there was one."""
    status = f" {delivery['last_http_status']}" if delivery["last_http_status"] else ""
    return f"{delivery['last_reason'] or 'unknown'}{status}"


def page(
    rows: list[dict[str, Any]],
    columns: dict[str, str],
    cursor: str | None,
    *,
    uncut: tuple[str, ...],
    empty: str,
) -> Iterator[str]:
    """Write one page of a list. `empty` is the line for a list without any rows."""
    if rows:
        yield from table(rows, columns, uncut=uncut)
    else:
        yield "none on this page" if cursor else empty
    if cursor:
        yield f"more: --cursor {cursor}"


def print_answer(
    answer: dict[str, Any], lines: Callable[[dict[str, Any]], Iterable[str]], *, as_json: bool
) -> None:
    """Print an answer of the API as JSON, or as the lines that `lines` writes about it."""
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer)))


def table(
    rows: list[dict[str, Any]], columns: dict[str, str], uncut: Iterable[str], *, indent: str = ""
) -> Iterator[str]:
    """Write rows as a table; `columns` maps the members of a row to their headings.

    On a terminal the table has at most 100 cells, and only columns that are not in `uncut` are shortened:
    someone may copy from the others. In a pipe nothing is shortened, since another program reads it.
    """
    from rich.cells import cell_len, set_cell_size

    lines = [list(columns.values()), *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    minimums = [
        width if name in set(uncut) else min(width, len(heading))
        for (name, heading), width in zip(columns.items(), widths, strict=True)
    ]
    if is_terminal():
        _shrink(widths, minimums, _WIDTH - len(indent) - len(_GAP) * (len(columns) - 1))
    for line in lines:
        cells = (
            cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
            for cell, width in zip(line, widths, strict=True)
        )
        line_cells = (set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True))
        yield f"{indent}{_GAP.join(line_cells)}".rstrip()


def is_terminal() -> bool:
    """Tell whether the output goes to a terminal."""
    return sys.stdout.isatty()


def _shrink(widths: list[int], minimums: list[int], room: int) -> None:
    """Narrow the widest column that is above its minimum, until the table fits or nothing can shrink."""
    while sum(widths) > room and (
        candidates := [index for index, width in enumerate(widths) if width > minimums[index]]
    ):
        widths[max(candidates, key=lambda index: widths[index])] -= 1


def _cell(value: object) -> str:
    return "-" if value is None else visible(str(value))
