"""What comes of the figures: percentiles, tables, and docs/benchmarks.md, a whole page made by one run."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: Written by hand or by another program; a new page has it as it was.
KEPT = "Flat cost"
Row = Sequence[str]


class Table(NamedTuple):
    """Figures, with a name for each column; all but the first are written to the right."""

    columns: Row
    rows: Sequence[Row]

    def markdown(self) -> str:
        """Return it as Markdown that can be read as it is."""
        cells = [self.columns, *self.rows]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        rule = [
            f"{'-' * width}" if place == 0 else f"{'-' * (width - 1)}:" for place, width in enumerate(widths)
        ]
        head, *rows = (
            [
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(pairs)
            ]
            for pairs in (list(zip(row, widths, strict=True)) for row in cells)
        )
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


class Section(NamedTuple):
    """A part of the report: what was done, and what came of it."""

    title: str
    text: str
    table: Table

    def markdown(self) -> str:
        return "\n\n".join(filter(None, (f"## {self.title}", self.text, self.table.markdown())))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them (0 to 1) don't exceed: the nearest rank. NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(ratios: Sequence[float]) -> str:
    """Write the median of ratios, with the least and the greatest when there are several."""
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.2f} to {max(ratios):.2f})"


def goal(value: float, bound: float, *, most: bool = False) -> str:
    """Write a goal and whether it was met: `bound` is the least, or the `most`, that the value may be."""
    met = value <= bound if most else value >= bound
    return f"{'≤' if most else '≥'} {bound:g}{' ✓' if met else ' ✗'}"


def kept(page: str, title: str = KEPT) -> str:
    """Return a section of a page, with its heading; empty when there is none."""
    found = re.search(rf"^## {re.escape(title)}$.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return found[0].strip() if found else ""


def page(sections: Sequence[Section], facts: Mapping[str, str], old: str) -> str:
    """Return the whole page; what `old` has under "Flat cost" stays.

    Args:
        sections: in their order.
        facts: what the figures hold for, such as machine and date.
        old: the page as it was, or nothing.
    """
    listed = "\n".join(f"- {name}: {text}" for name, text in facts.items())
    parts = [_HEAD.strip(), f"## What was measured on\n\n{listed}"]
    parts += [section.markdown() for section in sections]
    parts += filter(None, [kept(old), _FOOT.strip()])
    return "\n\n".join(parts) + "\n"


_HEAD = """
# Benchmarks

What the gateway costs beside servers that do less, measured side by side. `make bench` prints these tables,
and `make bench BENCH="--write docs/benchmarks.md"` writes this page anew.

## How to read it

**The ratios are what counts.** Each is of two figures of the same round, on the same core, minutes apart at
the most; events per second say more about the machine than about the gateway. All servers run at the same
time, each is kept to one and the same core, and they take their turns, forwards and backwards; `wrk` and
the destination have a core of their own. Figures are medians of the rounds. In brackets are the lowest and
the highest ratio of a round.

Each request is a signed event of 0.8 KB that was not there before, on 32 connections that each send the
next one when they have their answer. The gateway runs as an operator runs it, with metrics, logs and one
fsync before each answer (shared by the requests that wait for it). What it is compared with:

- *bare handler*: an aiohttp application on uvloop with one route that reads the body and answers 200.
- *low-level*: aiohttp's `web.Server` without an application, routes or middleware. Few would write this; it
  shows what is left when everything is taken away.
- *bare proxy*: an aiohttp application with a `ClientSession` that posts the body to the destination, waits
  for the reply and answers with its status. It verifies nothing and stores nothing.
- *FastAPI* and *Node*: what one would write instead of a gateway, in `tests/bench/instead`. Both verify the
  signature and forward within the request. FastAPI commits the event's id to SQLite before, with an fsync;
  Node keeps nothing. Neither retries: what the destination does not take is the provider's to send again.
  Both use their libraries with the defaults.

*Delivered* counts from the first request until the destination has replied to the last delivery: the
gateway accepts faster than it delivers, so that includes what still had to be delivered when the load
ended. Servers that forward within the request deliver what they accept. *CPU* is of the server's core, per
event, in µs.
"""

_FOOT = """
## Run it again

```sh
make bench                                        # all of it; about 6 minutes
make bench BENCH=--quick                          # one round, without latency and overload; about a minute
make bench BENCH="--write docs/benchmarks.md"     # all of it, and this page
make bench-verification                           # verification beside the bare digest, for each preset
make bench-stores                                 # SQLite and PostgreSQL, one and two workers
```

`make bench` fetches `wrk` (Debian) and Express (npm) into `.tools`, and installs FastAPI, uvicorn and httpx
with the extra `bench`. Nothing fails for being slow: it prints.
"""
