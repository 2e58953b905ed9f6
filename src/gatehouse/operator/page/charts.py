"""Charts as inline SVG, drawn on the server. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 160, 28
#: The bars of one sparkline, at most. More could not be told apart.
_BARS: Final = 48


def sparkline(values: Sequence[float | None], label: str, kind: str = "ok") -> Markup:
    """Draw values as bars, from old to new. None, for a time that is not known, leaves a gap.

    `label` says in words what the chart shows. `kind` chooses the color: `ok`, `bad`, `warn` or `quiet`.
    """
    bars = _reduced(values)
    highest = max((value for value in bars if value is not None), default=0.0)
    step = WIDTH / max(len(bars), 1)
    drawn = Markup("").join(
        _bar(position * step, step, value / highest)
        for position, value in enumerate(bars)
        if value is not None and highest and value > 0
    )
    gaps = Markup("").join(_gap(first * step, count * step) for first, count in _unknown(bars))
    return Markup(
        '<svg class="sparkline chart-{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
        'aria-label="{}" preserveAspectRatio="none">{}{}<line x1="0" x2="{}" y1="{}" y2="{}"/></svg>'
    ).format(kind, WIDTH, HEIGHT, WIDTH, HEIGHT, label, gaps, drawn, WIDTH, HEIGHT - 0.5, HEIGHT - 0.5)


def _bar(x: float, step: float, share: float) -> Markup:
    height = max(share * (HEIGHT - 3), 1.5)
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        x, HEIGHT - 1 - height, max(step - 0.8, 0.8), height
    )


def _gap(x: float, width: float) -> Markup:
    return Markup('<rect class="gap" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>').format(
        x, width, HEIGHT - 1
    )


def _reduced(values: Sequence[float | None]) -> list[float | None]:
    """Add up neighbors, so that at most `_BARS` values are left."""
    each = -(-len(values) // _BARS) or 1
    parts = [values[first : first + each] for first in range(0, len(values), each)]
    known = [[value for value in part if value is not None] for part in parts]
    return [sum(part) if part else None for part in known]


def _unknown(bars: Sequence[float | None]) -> list[tuple[int, int]]:
    """Return the position and the length of each run of unknown values."""
    found = []
    for is_unknown, run in groupby(enumerate(bars), key=lambda bar: bar[1] is None):
        positions = [position for position, _ in run]
        if is_unknown:
            found.append((positions[0], len(positions)))
    return found
