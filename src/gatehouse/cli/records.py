"""What commands about events and deliveries share: filters as options, lists as tables, one by one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from gatehouse.cli.options import complete_destination, complete_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from gatehouse.config.load import LoadedConfig

#: How wide a table gets on a terminal, in cells.
_WIDTH = 100
_GAP = "  "

operator_option = click.option(
    "--operator",
    metavar="URL",
    help="The gateway's operator listener.  [default: as in the config]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API answers.")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the options say; None where they say nothing."""

    destination: str | None
    source: str | None
    event_type: str | None
    since: str | None
    until: str | None

    def given(self) -> dict[str, str]:
        """Name the filters as the API does."""
        named = {
            "destination": self.destination,
            "source": self.source,
            "type": self.event_type,
            "since": self.since,
            "until": self.until,
        }
        return {name: value for name, value in named.items() if value is not None}

    def check(self, loaded: LoadedConfig) -> None:
        """Raise `GatewayError` for a name that the config does not have.

        For when nothing was found: what is in the store may be older than the config.
        """
        from gatehouse.cli.options import unknown

        for kind, name, known in (
            ("destination", self.destination, loaded.config.destinations),
            ("source", self.source, loaded.config.sources),
        ):
            if name is not None and name not in known:
                raise unknown(kind, name, known)


def filter_options(*, destination: bool) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Add the filters to a command, which gets them as `filters`."""

    def decorate(command: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_filters(**given: Any) -> None:  # noqa: ANN401 - click's own
            filters = Filters(**{name: given.pop(name, None) for name in Filters.__slots__})
            command(filters=filters, **given)

        decorated: Callable[..., Any] = with_filters
        for option in reversed(_OPTIONS if destination else _OPTIONS[1:]):
            decorated = option(decorated)
        return decorated

    return decorate


def path(base: str, **query: str | int | None) -> str:
    """Write a path of the API with its query."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{base}?{urlencode(given)}" if given else base


def visible(text: str) -> str:
    r"""Write what a terminal would act on, or not show, as an escape: `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    # A lone surrogate is no text at all, yet has an escape too.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def second(time: str) -> str:
    """Cut the fraction off a time of the API."""
    return time.partition(".")[0].removesuffix("Z") + "Z"


def listed(
    rows: list[dict[str, Any]],
    columns: dict[str, str],
    cursor: str | None,
    *,
    whole: tuple[str, ...],
    nothing: str,
) -> Iterator[str]:
    """Write one page of a list: `nothing` when it is empty and the last, and how to go on when it is not."""
    if rows:
        yield from table(rows, columns, whole=whole)
    else:
        yield "none here" if cursor else nothing
    if cursor:
        yield f"more: --cursor {cursor}"


def table(rows: list[dict[str, Any]], columns: dict[str, str], whole: Iterable[str]) -> Iterator[str]:
    """Write rows as a table; `columns` are the members and their heads.

    On a terminal it has 100 cells at most, and the columns in `whole` are never cut, since someone may copy
    from them. Elsewhere nothing is cut: another program reads it.
    """
    from rich.cells import cell_len, set_cell_size

    lines = [list(columns.values()), *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    least = [
        width if name in set(whole) else min(width, len(head))
        for (name, head), width in zip(columns.items(), widths, strict=True)
    ]
    if is_terminal():
        _shrink(widths, least, _WIDTH - len(_GAP) * (len(columns) - 1))
    for line in lines:
        cells = (
            cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
            for cell, width in zip(line, widths, strict=True)
        )
        yield _GAP.join(
            set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True)
        ).rstrip()


def is_terminal() -> bool:
    """Tell whether a person reads the output, and no other program."""
    import sys

    return sys.stdout.isatty()


def _shrink(widths: list[int], least: list[int], room: int) -> None:
    """Take from the widest column that is wider than its least, until all fit or none is."""
    while sum(widths) > room and (
        wide := [index for index, width in enumerate(widths) if width > least[index]]
    ):
        widths[max(wide, key=lambda index: widths[index])] -= 1


def _cell(value: object) -> str:
    return "-" if value is None else visible(str(value))


async def one_by_one(names: Iterable[str], ask: Callable[[str], Awaitable[None]]) -> None:
    """Ask for each; those that are refused don't keep the others from it. Exits 1 when there was one."""
    import sys

    from gatehouse.cli import show_error
    from gatehouse.cli.operator_client import RefusedError

    refused = 0
    for name in dict.fromkeys(names):
        try:
            await ask(name)
        except RefusedError as error:
            error.message = f"{visible(name)}: {error.message}"
            show_error(error)
            refused += 1
    if refused:
        sys.exit(1)


def add(counted: dict[str, int], more: Mapping[str, int]) -> None:
    """Add numbers by name."""
    for name, number in more.items():
        counted[name] = counted.get(name, 0) + number


_WHEN = "1h, 2d, today, yesterday, 2026-11-29, RFC 3339 or unix seconds"
_OPTIONS = (
    click.option(
        "--destination", metavar="NAME", shell_complete=complete_destination, help="Of this destination."
    ),
    click.option("--source", metavar="NAME", shell_complete=complete_source, help="Of this source."),
    click.option("--type", "event_type", metavar="PATTERN", help="Of these types, as in routes: invoice.*"),
    click.option("--since", metavar="TIME", help=f"Received at this time or later: {_WHEN}; in UTC."),
    click.option("--until", metavar="TIME", help="Received before this time."),
)
