"""Counters, gauges and histograms that cost next to nothing to count in.

A request counts five times, a delivery as often. Those of prometheus_client take a lock and make some checks
each time; here only the event loop's thread counts, with labels that are known beforehand. What is exposed is
the same to the byte, and is written one series at a time, so that requests need not wait for a long page.
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

#: What one line of the exposition has beside the number: what follows the family's name, and its own labels.
_Suffix = tuple[str, dict[str, str]]


class Series:
    """What is counted under one set of labels."""

    __slots__ = ()
    #: The type in the exposition.
    kind: ClassVar[str]

    def suffixes(self) -> list[_Suffix]:
        """Return what each line of the exposition looks like. It never changes."""
        raise NotImplementedError

    def values(self) -> list[float]:
        """Return the number of each line, as it is now."""
        raise NotImplementedError


class Counter(Series):
    """A number that only rises."""

    __slots__ = ("value",)
    kind = "counter"

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Count so many more; never fewer than none."""
        self.value += amount

    def suffixes(self) -> list[_Suffix]:
        return [("_total", {})]

    def values(self) -> list[float]:
        return [self.value]


class Gauge(Series):
    """A number that stands for how things are."""

    __slots__ = ("value",)
    kind = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Show this number from now on."""
        self.value = value

    def suffixes(self) -> list[_Suffix]:
        return [("", {})]

    def values(self) -> list[float]:
        return [self.value]


class Histogram(Series):
    """How many numbers were at most each of some bounds, which rise; how many there were; and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")
    kind = "histogram"

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        #: By the first bound that is not exceeded; the last: how many exceeded them all.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a number."""
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
    """All series of one name."""

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, ...], make: Callable[[], S_co], kind: str
    ) -> None:
        #: Exposed with `_total` after it where the kind is a counter.
        self._name = name.removesuffix("_total") if kind == Counter.kind else name
        self._help = help_text
        self._labels = labels
        self._make = make
        self._kind = kind
        self._series: dict[tuple[str, ...], S_co] = {}
        #: How the lines of a series begin, once they were written: they stay the same.
        self._prefixes: dict[tuple[str, ...], list[str]] = {}

    def labels(self, *values: str) -> S_co:
        """Make (or find) the series with these labels, at zero. Raises `ValueError` where one lacks."""
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, not {values}")
        if values not in self._series:
            self._series[values] = self._make()
        return self._series[values]

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Let all series go that have these labels, whatever others they have."""
        for values in list(self._series):
            if labels.items() <= self._labels_of(values).items():
                del self._series[values]
                self._prefixes.pop(values, None)

    def describe(self) -> list[Metric]:
        """Name the family, for the registry to see that no two have the same name."""
        return [Metric(self._name, self._help, self._kind)]

    def collect(self) -> list[Metric]:
        """Give what all series have come to."""
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

        The numbers of a series are read together, when it is written.
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
    """Write labels in the order of their names, as prometheus_client does."""
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escape(labels[name])}"' for name in sorted(labels)]) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _format(number: float) -> str:
    written: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return written
