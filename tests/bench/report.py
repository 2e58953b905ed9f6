"""Turns figures into percentiles, tables and docs/benchmarks.md, a page that one run writes."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

Row = Sequence[str]


class Table(NamedTuple):
    """Figures with a name for each column. All columns but the first are right-aligned."""

    columns: Row
    rows: Sequence[Row]

    def markdown(self) -> str:
        """Return the table as Markdown that is readable without rendering."""
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
    """A part of the report: what was measured, and the figures."""

    title: str
    text: str
    table: Table

    def markdown(self) -> str:
        return "\n\n".join(filter(None, (f"## {self.title}", self.text, self.table.markdown())))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a `share` (0 to 1) of them does not exceed: nearest rank, NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(ratios: Sequence[float]) -> str:
    """Write the median of ratios, with the lowest and the highest if there are several."""
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({min(ratios):.2f} to {max(ratios):.2f})"


def goal(value: float, bound: float, *, most: bool = False) -> str:
    """Write a goal and whether the value meets it: `bound` is the minimum, or with `most` the maximum."""
    met = value <= bound if most else value >= bound
    return f"{'≤' if most else '≥'} {bound:g}{' ✓' if met else ' ✗'}"


def kept(page: str, written: Collection[str]) -> list[str]:
    """Return the sections of a page, each with its heading, without those with these titles."""
    found = re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return [f"## {title}\n{text}".strip() for title, text in found if title not in written]


def page(sections: Sequence[Section], facts: Mapping[str, str], old: str) -> str:
    """Return the whole page. Sections of `old` that other programs or people write stay.

    Args:
        sections: the sections in their order.
        facts: what the figures apply to, such as machine and date.
        old: the previous page, or an empty text.
    """
    listed = "\n".join(f"- {name}: {text}" for name, text in facts.items())
    parts = [_HEAD.strip(), f"## Test setup\n\n{listed}"]
    parts += [section.markdown() for section in sections]
    parts += [*kept(old, [*_OWN_TITLES, *(section.title for section in sections)]), _FOOT.strip()]
    return "\n\n".join(parts) + "\n"


#: The titles of the sections that every page has, in the texts below.
_OWN_TITLES = ("How to read it", "Test setup", "Run it again")
_HEAD = """
# Benchmarks

This page is for anyone who sizes a machine or compares Gatehouse with a hand-written receiver. It shows what
the gateway costs next to servers that do less, measured side by side. `make bench` prints these tables, and
`make bench BENCH="--write docs/benchmarks.md"` rewrites this page.

## How to read it

**Compare the ratios.** Each ratio is between two figures of the same round, on the same core, at most minutes
apart. The events per second say more about the machine than about the gateway. All servers run at the same
time, each is pinned to the same core, and they take turns, first in one order and then in reverse. `wrk` and
the destination have a core of their own. Figures are medians of the rounds. The brackets show the lowest and
the highest ratio of a round.

Each request is a new, signed event of 0.8 KB. There are 32 connections, and each sends its next request when
it has received its answer. The gateway runs as in production, with metrics, logs and one fsync before each
answer (shared by the requests that wait for it). It is compared with:

- *bare handler*: an aiohttp application on uvloop with one route that reads the body and answers 200.
- *low-level*: aiohttp's `web.Server` without an application, routes or middleware. Few people would write
  this; it shows the minimum that is possible.
- *bare proxy*: an aiohttp application with a `ClientSession` that posts the body to the destination, waits
  for the reply and answers with its status. It verifies nothing and stores nothing.
- *compiled reference*: a small gateway in Go, in `tests/bench/reference`, with nearly the same promise. It
  verifies the HMAC signature, drops duplicates by the event's id, and commits the event to SQLite before it
  answers, with one fsync for all requests that wait. It delivers signed CloudEvents, 16 at a time
  (Gatehouse: 16 to 64, adapted to the destination), and retries with exponential backoff. After a restart
  it delivers what is pending. It does nothing else that Gatehouse does: no config, one source, one
  destination, no circuit breaker, no rate
  limits, no limits on connections or memory, no log, no diagnosis, no operator API, and no metrics except
  three counts. It keeps events forever and all pending deliveries in memory. It uses `net/http` and
  `mattn/go-sqlite3`.
- *FastAPI* and *Node*: typical hand-written receivers, in `tests/bench/instead`. Both verify the signature
  and forward within the request. FastAPI first commits the event's id to SQLite, with an fsync; Node stores
  nothing. Neither retries: if the destination fails, the provider has to send the event again. Both use
  their libraries with default settings.

*Delivered* counts from the first request until the destination has replied to the last delivery. The gateway
accepts faster than it delivers, so this includes the deliveries that were still pending when the load ended.
Servers that forward within the request deliver what they accept. *CPU* is the time on the server's core per
event, in µs.
"""

_FOOT = """
## Run it again

```sh
make bench                                        # everything; about 6 minutes
make bench BENCH=--quick                          # one round, without latency and overload; about a minute
make bench BENCH="--write docs/benchmarks.md"     # everything, and this page
make bench-verification                           # verification next to the bare digest, for each preset
make bench-stores                                 # SQLite and PostgreSQL, one and two workers
make bench-idle                                   # an idle gateway, and the commands that ask it
```

`make bench` downloads `wrk` (Debian) and Express (npm) into `.tools`, and installs FastAPI, uvicorn and httpx
with the extra `bench`. With Go and a C compiler, it builds the compiled reference in `.tools`: the first
build downloads 3 MB and takes a minute. A benchmark never fails because it is slow; it only prints its
figures.
"""
