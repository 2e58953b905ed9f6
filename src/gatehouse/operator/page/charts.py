"""Charts as inline SVG, drawn on the server. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatehouse.operator.page.series import Series

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


#: Pixels. The width is that of the page, so positions across are percentages.
_PLOT, _ABOVE, _BELOW = 120, 16, 18
#: Seconds between two labels below a chart, and how close to the edge one may be (percent).
_LABEL_EVERY: Final = 4 * 3600
_EDGE: Final = 4.0


def chart(series: Sequence[Series], start: float, step: float, label: str, highest: str) -> Markup:
    """Draw several series as stacked bars over time, with the hours (UTC) below and the maximum above.

    `start` is the Unix time of the first value, and `step` the seconds between two. `label` says in words
    what the chart shows. `highest` is what the tallest stack stands for. A time of which nothing is known is
    gray.
    """
    stacks = list(zip(*(one.values for one in series), strict=True))
    top = max((sum(filter(None, stack)) for stack in stacks), default=0.0)
    bars = Markup("").join(
        _stacked(position, stack, [one.kind for one in series], top)
        for position, stack in enumerate(stacks)
        if top
    )
    unknown = [None if all(value is None for value in stack) else 0.0 for stack in stacks]
    gaps = Markup("").join(
        Markup('<rect class="gap" x="{}" y="0" width="{}" height="{}"/>').format(first, count, _PLOT)
        for first, count in _unknown(unknown)
    )
    return Markup(
        '<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">'
        '<svg y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}{}</svg>'
        '<line x1="0" x2="100%" y1="{}" y2="{}"/><line x1="0" x2="100%" y1="{}" y2="{}"/>'
        '<text x="0" y="{}">{}</text>{}</svg>'
    ).format(
        *(label, _ABOVE + _PLOT + _BELOW),
        *(_ABOVE, _PLOT, max(len(stacks), 1), _PLOT, gaps, bars),
        *(_ABOVE, _ABOVE, _ABOVE + _PLOT, _ABOVE + _PLOT),
        *(_ABOVE - 4, highest, _hours(start, step * len(stacks))),
    )


def _stacked(position: int, stack: Sequence[float | None], kinds: Sequence[str], top: float) -> Markup:
    drawn, base = [], float(_PLOT)
    for value, kind in zip(stack, kinds, strict=True):
        if value:
            height = max(value / top * _PLOT, 1.0)
            base -= height
            drawn.append(
                Markup('<rect class="c-{}" x="{}" y="{:.1f}" width="0.85" height="{:.1f}"/>').format(
                    kind, position, base, height
                )
            )
    return Markup("").join(drawn)


def _hours(start: float, length: float) -> Markup:
    """Label each fourth full hour (UTC)."""
    first = -(-start // _LABEL_EVERY) * _LABEL_EVERY
    labels = []
    for number in range(int((start + length - first) // _LABEL_EVERY) + 1):
        at = first + number * _LABEL_EVERY
        across = (at - start) / length * 100
        if _EDGE <= across <= 100 - _EDGE:
            text = f"{int(at // 3600 % 24):02}:00"
            labels.append(
                Markup('<text class="hour" x="{:.2f}%" y="{}">{}</text>').format(
                    across, _ABOVE + _PLOT + _BELOW - 4, text
                )
            )
    return Markup("").join(labels)
