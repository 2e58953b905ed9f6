"""Counters, gauges and histograms that cost next to nothing to count in.

A request counts five times, a delivery as often. Those of prometheus_client take a lock and make some checks
each time; here only the event loop's thread counts, with labels that are known beforehand. What is exposed is
the same to the byte.
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

#: One line of the exposition: what follows the family's name, labels of its own, and the number.
_Line = tuple[str, dict[str, str], float]


class Series:
    """What is counted under one set of labels."""

    __slots__ = ()
    #: The type in the exposition.
    kind: ClassVar[str]

    def lines(self) -> Iterator[_Line]:
        """Give what there is to expose."""
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

    def lines(self) -> Iterator[_Line]:
        yield "_total", {}, self.value


class Gauge(Series):
    """A number that stands for how things are."""

    __slots__ = ("value",)
    kind = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Show this number from now on."""
        self.value = value

    def lines(self) -> Iterator[_Line]:
        yield "", {}, self.value


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

    def lines(self) -> Iterator[_Line]:
        total = 0
        for bound, total in zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True):
            yield "_bucket", {"le": floatToGoString(bound)}, total  # type: ignore[no-untyped-call]
        yield "_count", {}, total
        yield "_sum", {}, self._sum


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
            if labels.items() <= self._named(values).items():
                del self._series[values]

    def describe(self) -> list[Metric]:
        """Name the family, for the registry to see that no two have the same name."""
        return [Metric(self._name, self._help, self._kind)]

    def collect(self) -> list[Metric]:
        """Give what all series have come to."""
        (metric,) = self.describe()
        for values, series in self._series.copy().items():
            labels = self._named(values)
            metric.samples += [
                Sample(self._name + suffix, labels | own, number) for suffix, own, number in series.lines()
            ]
        return [metric]

    def _named(self, values: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self._labels, values, strict=True))
