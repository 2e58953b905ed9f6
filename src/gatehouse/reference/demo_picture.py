"""Draws the output of `gatehouse demo` as an SVG picture for the README.

`python -m gatehouse.reference.demo_picture FILE` runs the demo and writes the picture. The picture shows
what the demo printed, without the event and the metrics, which would make it too tall for a page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.style import Style

#: The width of the terminal, in cells: that of the widest table.
_COLUMNS = 96
#: A control sequence that clears a line. Rich writes it before it draws the table again.
_CLEAR = "\x1b[2K"
#: The size of a cell, the margin around the text, and the size of the font, in pixels.
_CELL_WIDTH, _LINE_HEIGHT, _MARGIN, _FONT_SIZE = 8.4, 20, 16, 14
#: Fonts that systems have. An SVG in a page can't fetch others.
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
#: The background is part of the picture, so it looks the same on a light and on a dark page.
_BACKGROUND, _FOREGROUND, _DIM = "#1d2330", "#dfe3ea", "#98a2b3"
#: By the number that a terminal knows the color by: red, green, yellow, cyan.
_COLORS = {1: "#ff8f85", 2: "#7ddb8a", 3: "#f0c669", 6: "#6fd0e3"}


def run_demo() -> str:
    """Return what the demo prints on a terminal with colors. Raises `CalledProcessError` if it fails."""
    command = [sys.executable, "-m", "gatehouse", "demo", "--once", "--port", "0", "--operator-port", "0"]
    terminal = {"COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | terminal
    run = subprocess.run(  # noqa: S603 - our own program
        command, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout


def final_screen(output: str) -> str:
    """Return what is on the screen at the end: the table is drawn many times, and its last drawing stays."""
    before, _, drawings = output.partition("\x1b[?25l")
    return before + drawings.rpartition(_CLEAR)[2].replace("\x1b[?25h", "")


def shortened(screen: str) -> str:
    """Return the introduction, the table and the verdict: the first two paragraphs and the last one."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", screen) if part.strip()]
    return "\n\n".join([*paragraphs[:2], paragraphs[-1]])


def draw(text: str) -> str:
    """Return the SVG picture of a text with ANSI colors.

    Each piece of text has its own place and width, so columns align whatever font there is.
    """
    console = Console(width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    lines = Text.from_ansi(f"$ make demo\n{text}").split("\n")
    pieces = [piece for row, line in enumerate(lines) for piece in _draw_line(console, line, row)]
    width = round(_COLUMNS * _CELL_WIDTH + 2 * _MARGIN)
    height = len(lines) * _LINE_HEIGHT + 2 * _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' font-family="{_FONTS}" font-size="{_FONT_SIZE}" fill="{_FOREGROUND}">'
    )
    title = "<title>The output of make demo</title>"
    background = f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}"/>'
    return "\n".join([head, title, background, *pieces, "</svg>"]) + "\n"


def _draw_line(console: Console, line: Text, row: int) -> Iterator[str]:
    """Draw each piece of a line that is between two gaps or changes of style."""
    y = _MARGIN + (row + 0.75) * _LINE_HEIGHT
    column = 0
    for segment in line.render(console):
        for piece in re.finditer(r"\S+(?: \S+)*", segment.text):
            yield _draw_piece(piece[0], column + piece.start(), y, segment.style)
        column += len(segment.text)


def _draw_piece(text: str, column: int, y: float, style: Style | None) -> str:
    x, width = _MARGIN + column * _CELL_WIDTH, len(text) * _CELL_WIDTH
    if set(text) == {"─"}:  # a line, so that it has no gaps in any font
        return f'<path d="M{x:g} {y - 5:g}h{width:g}" stroke="{_DIM}"/>'
    number = style.color.number if style and style.color else None
    fill = _COLORS.get(number or 0) or (_DIM if style and style.dim else None)
    attributes = (f' fill="{fill}"' if fill else "") + (' font-weight="bold"' if style and style.bold else "")
    place = f'x="{x:g}" y="{y:g}" textLength="{width:g}" lengthAdjust="spacingAndGlyphs"'
    return f"<text {place}{attributes}>{escape(text)}</text>"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(shortened(final_screen(run_demo()))), encoding="utf-8")
