"""Counters, gauges and histograms with almost no cost per update.

A request updates five of them, and so does a delivery. The types of prometheus_client take a lock and check
labels at each update. Here only the thread of the event loop updates, and the labels are fixed beforehand.
The exposition is identical to the byte. It is written one series at a time, so that requests need not wait
for a long page.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: A line of the exposition without its value: the suffix of the name, and the additional labels.
_Suffix = tuple[str, dict[str, str]]


class Series:
    """The values of one set of labels."""

    __slots__ = ()
    #: The type in the exposition.
    kind: ClassVar[str]

    def suffixes(self) -> list[_Suffix]:
        """Return the suffix and labels of each line. They never change."""
        raise NotImplementedError

    def values(self) -> list[float]:
        """Return the current value of each line."""
        raise NotImplementedError


class Counter(Series):
    """A number that only rises."""

    __slots__ = ("value",)
    kind = "counter"

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add a number, which must not be negative."""
        self.value += amount

    def suffixes(self) -> list[_Suffix]:
        return [("_total", {})]

    def values(self) -> list[float]:
        return [self.value]


class Gauge(Series):
    """A number that rises and falls."""

    __slots__ = ("value",)
    kind = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Set the value."""
        self.value = value

    def suffixes(self) -> list[_Suffix]:
        return [("", {})]

    def values(self) -> list[float]:
        return [self.value]


class ComputedGauge(Series):
    """A gauge whose value is computed when it is read."""

    __slots__ = ("compute",)
    kind = "gauge"

    def __init__(self) -> None:
        #: Returns the value. It must be fast, because a scrape calls it.
        self.compute: Callable[[], float] = float

    def suffixes(self) -> list[_Suffix]:
        return [("", {})]

    def values(self) -> list[float]:
        return [self.compute()]


class Histogram(Series):
    """Counts values in buckets with rising upper bounds, and keeps their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")
    kind = "histogram"

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        #: By the index of the bucket. The last count is for values above all bounds.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._sum += value
        self._counts[bisect_left(self._bounds, value)] += 1

    def suffixes(self) -> list[_Suffix]:
        buckets = [("_bucket", {"le": _format(bound)}) for bound in (*self._bounds, float("inf"))]
        return [*buckets, ("_count", {}), ("_sum", {})]

    def values(self) -> list[float]:
        totals = list(accumulate(self._counts))
        return [*totals, totals[-1], self._sum]


S_co = TypeVar("S_co", bound=Series, covariant=True)


class Family(Collector, Generic[S_co]):
    """All series with the same name."""

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, ...], make: Callable[[], S_co], kind: str
    ) -> None:
        #: Counters are exposed with the suffix `_total`.
        self._name = name.removesuffix("_total") if kind == Counter.kind else name
        self._help = help_text
        self._labels = labels
        self._make = make
        self._kind = kind
        self._series: dict[tuple[str, ...], S_co] = {}
        #: The fixed beginning of each line of a series, once it has been written.
        self._prefixes: dict[tuple[str, ...], list[str]] = {}

    def labels(self, *values: str) -> S_co:
        """Return the series with these labels.

        Creates it at zero. Raises `ValueError` for a wrong number of labels.
        """
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, not {values}")
        if values not in self._series:
            self._series[values] = self._make()
        return self._series[values]

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Remove all series that have these labels, whatever their other labels are."""
        for values in list(self._series):
            if labels.items() <= self._labels_of(values).items():
                del self._series[values]
                self._prefixes.pop(values, None)

    def describe(self) -> list[Metric]:
        """Describe the family, so that the registry detects duplicate names."""
        return [Metric(self._name, self._help, self._kind)]

    def collect(self) -> list[Metric]:
        """Return the current values of all series."""
        (metric,) = self.describe()
        for values, series in self._series.copy().items():
            labels = self._labels_of(values)
            metric.samples += [
                Sample(self._name + suffix, labels | own, number)
                for (suffix, own), number in zip(series.suffixes(), series.values(), strict=True)
            ]
        return [metric]

    def write(self) -> Iterator[str]:
        """Write the family in the text exposition format: its head, then one series after the other.

        The values of a series are read together, when the series is written.
        """
        name = self._name + ("_total" if self._kind == Counter.kind else "")
        help_text = self._help.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {name} {help_text}\n# TYPE {name} {self._kind}\n"
        for values, series in self._series.copy().items():
            prefixes = self._prefixes.get(values)
            if prefixes is None:
                prefixes = self._prefixes[values] = self._prefixes_of(values, series)
            lines = zip(prefixes, map(_format, series.values()), strict=True)
            yield "".join([f"{prefix}{number}\n" for prefix, number in lines])

    def _prefixes_of(self, values: tuple[str, ...], series: Series) -> list[str]:
        labels = self._labels_of(values)
        return [f"{self._name}{suffix}{_format_labels(labels | own)} " for suffix, own in series.suffixes()]

    def _labels_of(self, values: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self._labels, values, strict=True))


def _format_labels(labels: Mapping[str, str]) -> str:
    """Format labels sorted by name, as prometheus_client does."""
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escape(labels[name])}"' for name in sorted(labels)]) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _format(number: float) -> str:
    written: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return written
