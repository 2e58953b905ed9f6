"""The last 24 hours of a source or a destination, as larger charts and as a table by the hour. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatehouse.language.times import parse_time, rfc3339
from gatehouse.operator.page import series
from gatehouse.operator.page.series import Series
from gatehouse.operator.page.wording import number, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Buckets for each bar.
_EACH: Final = 3
#: So many reasons have a color of their own. The others share one.
_COLORS: Final = 5


class Legend(NamedTuple):
    """One color of a chart, and what it stands for in the last 24 hours."""

    name: str
    kind: str
    total: int


class Chart(NamedTuple):
    """A chart with its heading. `unit` says what a bar is, and `label` what the whole shows."""

    title: str
    unit: str
    series: Sequence[Series]
    label: str
    #: What the tallest bar stands for.
    highest: str
    legend: Sequence[Legend] = ()


class Column(NamedTuple):
    """A column of the table. `shown` writes its values."""

    name: str
    buckets: series.Buckets
    combine: Callable[[list[int]], int] = sum
    shown: Callable[[int | None], str] = number


class Day(NamedTuple):
    """The charts, and the same numbers as a table: an hour and its cells in each row, the newest first.

    `start` is the Unix time at which the charts begin, and `step` the seconds of a bar.
    """

    start: float
    step: float
    charts: Sequence[Chart]
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def of_destination(history: Mapping[str, Any], seen: Mapping[str, Any]) -> Day:
    """Return the day of a destination: `seen` is its entry in the history."""
    reasons = _by_total(seen["reasons"])
    delivered = [Series("delivered", "ok", seen["delivered"])]
    failed = [Series(name, f"{place}", buckets) for place, (name, buckets) in enumerate(reasons)] or [
        Series("failed", "0", seen["failed"])
    ]
    drawn = [
        _counted(history, "Delivered events", delivered),
        _counted(history, "Failed attempts by reason", failed),
        _lag(history, seen["lag"]),
    ]
    columns = [
        Column("Delivered", seen["delivered"]),
        *(Column(name, buckets) for name, buckets in reasons),
        Column("Oldest pending", seen["lag"], max, _duration),
    ]
    return _day(history, drawn, columns)


def of_source(history: Mapping[str, Any], seen: Mapping[str, Any]) -> Day:
    """Return the day of a source: `seen` is its entry in the history."""
    accepted = [Series("accepted", "ok", seen["accepted"])]
    refused = [
        Series("refused", "1", seen["refused"]),
        Series("answered 5xx", "0", seen["unavailable"]),
    ]
    drawn = [
        _counted(history, "Accepted events", accepted),
        _counted(history, "Requests not accepted", refused),
    ]
    columns = [
        Column("Accepted", seen["accepted"]),
        Column("Refused", seen["refused"]),
        Column("Answered 5xx", seen["unavailable"]),
    ]
    return _day(history, drawn, columns)


def _by_total(reasons: Mapping[str, series.Buckets]) -> list[tuple[str, series.Buckets]]:
    """Return the most frequent reasons first. The rare ones beyond the colors are added up as `other`."""
    ordered = sorted(reasons.items(), key=lambda one: -series.total(one[1]))
    most, rest = ordered[:_COLORS], ordered[_COLORS:]
    return most + ([("other", series.added([buckets for _, buckets in rest]))] if rest else [])


def _counted(history: Mapping[str, Any], title: str, found: Sequence[Series]) -> Chart:
    legend = [Legend(one.name, one.kind, series.total(one.values)) for one in found]
    bars = [one._replace(values=series.parts(one.values, _EACH)) for one in found]
    stacks = zip(*(one.values for one in bars), strict=True)
    highest = max((sum(filter(None, stack)) for stack in stacks), default=0)
    unit = f"per {seconds(history['step_seconds'] * _EACH)}"
    said = ", ".join(f"{number(one.total)} {one.name}" for one in legend)
    label = f"{title} in the last 24 hours: {said}. At most {number(highest)} {unit}."
    return Chart(title, unit, bars, label, _maximum(number(highest)), legend)


def _lag(history: Mapping[str, Any], lag: series.Buckets) -> Chart:
    bars = Series("oldest pending", "wait", series.parts(lag, _EACH, max))
    highest = _duration(max(filter(None, lag), default=0))
    label = f"Age of the oldest pending delivery in the last 24 hours: at most {highest}."
    unit = f"highest age in {seconds(history['step_seconds'] * _EACH)}"
    return Chart("Oldest pending", unit, [bars], label, _maximum(highest))


def _day(history: Mapping[str, Any], drawn: Sequence[Chart], columns: Sequence[Column]) -> Day:
    start, step = _start(history), history["step_seconds"] * _EACH
    return Day(start, step, drawn, [column.name for column in columns], _rows(history, columns))


def _rows(history: Mapping[str, Any], columns: Sequence[Column]) -> list[tuple[str, Sequence[str]]]:
    start, step = _start(history), history["step_seconds"]
    cells = [series.hourly(start, step, column.buckets, column.combine) for column in columns]
    return [
        (rfc3339(hour), [column.shown(by_hour[hour]) for column, by_hour in zip(columns, cells, strict=True)])
        for hour in cells[0]
    ]


def _start(history: Mapping[str, Any]) -> float:
    return parse_time(history["from"]) or 0.0


def _maximum(highest: str) -> str:
    return "none" if highest == "0" else f"max {highest}"


def _duration(value: int | None) -> str:
    return number(None) if value is None else seconds(value) if value else "0"
