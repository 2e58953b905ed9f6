"""Gatehouse's counters, gauges and histograms are exposed exactly like those of prometheus_client."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from gatehouse.telemetry.metric_types import Counter, Family, Gauge, Histogram
from gatehouse.telemetry.metrics import Metrics

BOUNDS = (0.001, 0.25, 1, 2.5, 64, 86400, 2_500_000)


@pytest.fixture(autouse=True)
def _no_creation_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prometheus_client.metrics._use_created", False)


class Both:
    """The same families twice: of Gatehouse and of prometheus_client."""

    def __init__(self) -> None:
        self.ours, self.theirs = CollectorRegistry(), CollectorRegistry()
        self._families: list[Family[Any]] = []

    def counter(self, *given: str) -> tuple[Family[Counter], prometheus_client.Counter]:
        name, help_text, *labels = given
        ours = Family(name, help_text, tuple(labels), Counter, Counter.kind)
        self.ours.register(ours)
        self._families.append(ours)
        return ours, prometheus_client.Counter(name, help_text, labels, registry=self.theirs)

    def gauge(self, *given: str) -> tuple[Family[Gauge], prometheus_client.Gauge]:
        name, help_text, *labels = given
        ours = Family(name, help_text, tuple(labels), Gauge, Gauge.kind)
        self.ours.register(ours)
        self._families.append(ours)
        return ours, prometheus_client.Gauge(name, help_text, labels, registry=self.theirs)

    def histogram(self, *given: str) -> tuple[Family[Histogram], prometheus_client.Histogram]:
        name, help_text, *labels = given
        ours = Family(name, help_text, tuple(labels), partial(Histogram, BOUNDS), Histogram.kind)
        self.ours.register(ours)
        self._families.append(ours)
        theirs = prometheus_client.Histogram(name, help_text, labels, buckets=BOUNDS, registry=self.theirs)
        return ours, theirs

    def exposed(self) -> str:
        """Return the exposition, which is the same for both, in either format."""
        ours, theirs = generate_latest(self.ours), generate_latest(self.theirs)
        assert ours == theirs
        # Twice: the second time the fixed parts are cached.
        for _ in range(2):
            assert "".join(part for family in self._families for part in family.write()) == ours.decode()
        assert generate_open_metrics(self.ours) == generate_open_metrics(self.theirs)  # type: ignore[no-untyped-call]
        return ours.decode()


def test_all_types_match_prometheus_client() -> None:
    both = Both()
    for counter in both.counter(
        "requests_total", 'Help with a \\, a "quote"\nand a line.', "source", "outcome"
    ):
        counter.labels("mandato", "accepted").inc()
        counter.labels("mandato", "accepted").inc(0.25)
        counter.labels('a\\b"c\nd', "é").inc(12_345_678)
        counter.labels("never", "counted")
    for gauge in both.gauge("free_bytes", "Room.", "disk"):
        gauge.labels("one").set(2**40)
        gauge.labels("two").set(True)
        gauge.labels("three").set(math.nan)
        gauge.labels("four").set(-0.5)
        gauge.labels("five").set(math.inf)
    for histogram in both.histogram("duration_seconds", "How long.", "source"):
        histogram.labels("mandato").observe(0.3)
        histogram.labels("idle")
    assert 'requests_total{outcome="accepted",source="mandato"} 1.25\n' in both.exposed()


def test_a_family_without_labels_has_one_series_at_zero() -> None:
    both = Both()
    both.counter("ended_total", "Help.")[0].labels()
    both.gauge("store_bytes", "Help.")[0].labels()
    both.histogram("commit_seconds", "Help.")[0].labels()
    exposed = both.exposed()
    assert "\nended_total 0.0\n" in exposed
    assert "\nstore_bytes 0.0\n" in exposed
    assert "\ncommit_seconds_sum 0.0\n" in exposed


def test_a_family_without_series_has_only_a_head() -> None:
    both = Both()
    both.counter("requests_total", "Help.", "source")
    both.gauge("ready", "Help.", "source")
    both.histogram("seconds", "Help.", "source")
    assert "{" not in both.exposed()


@pytest.mark.parametrize(
    "value", [0, -1, *BOUNDS, *(math.nextafter(bound, math.inf) for bound in BOUNDS), 0.5, 7, 1e9, math.inf]
)
def test_observations_fall_into_the_same_buckets(value: float) -> None:
    both = Both()
    ours, theirs = both.histogram("seconds", "Help.", "source")
    for seen in (value, 0.2, value):
        ours.labels("a").observe(seen)
        theirs.labels("a").observe(seen)
    assert '\nseconds_count{source="a"} 3.0\n' in both.exposed()


def test_a_sum_of_many_numbers_is_rounded_the_same_way() -> None:
    both = Both()
    ours, theirs = both.histogram("seconds", "Help.", "source")
    for number in range(1000):
        ours.labels("a").observe(number / 7)
        theirs.labels("a").observe(number / 7)
    both.exposed()


def test_only_the_series_with_the_label_are_removed() -> None:
    both = Both()
    for counter in both.counter("requests_total", "Help.", "source", "outcome"):
        for source in ("gone", "stays"):
            counter.labels(source, "accepted").inc()
            counter.labels(source, "gone").inc(2)
        counter.remove_by_labels({"source": "gone"})
        counter.remove_by_labels({"source": "never there"})
    exposed = both.exposed()
    assert 'source="gone"' not in exposed
    assert 'requests_total{outcome="gone",source="stays"} 2.0\n' in exposed


def test_a_series_that_is_created_again_starts_at_zero_and_is_last() -> None:
    both = Both()
    for counter in both.counter("requests_total", "Help.", "source"):
        for source in ("a", "b"):
            counter.labels(source).inc()
        counter.remove_by_labels({"source": "a"})
        counter.labels("a")
    assert both.exposed().endswith('requests_total{source="b"} 1.0\nrequests_total{source="a"} 0.0\n')


def test_the_same_labels_return_the_same_series() -> None:
    counter, _ = Both().counter("requests_total", "Help.", "source")
    assert counter.labels("a") is counter.labels("a")
    assert counter.labels("a") is not counter.labels("b")


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_a_wrong_number_of_labels_is_refused(values: tuple[str, ...]) -> None:
    counter, _ = Both().counter("requests_total", "Help.", "source", "outcome")
    with pytest.raises(ValueError, match="outcome"):
        counter.labels(*values)


def test_two_families_with_the_same_name_are_refused() -> None:
    both = Both()
    both.histogram("seconds", "Help.")
    with pytest.raises(ValueError, match="seconds_count"):
        both.gauge("seconds_count", "Help.")


def test_a_registry_returns_the_value_of_a_series() -> None:
    metrics = Metrics()
    metrics.destination("billing").lag.observe(7)
    tell = metrics.registry.get_sample_value
    assert tell("gatehouse_delivery_lag_seconds_count", {"destination": "billing"}) == 1
    assert tell("gatehouse_delivery_lag_seconds_bucket", {"destination": "billing", "le": "5.0"}) == 0
    assert tell("gatehouse_delivery_lag_seconds_bucket", {"destination": "billing", "le": "30.0"}) == 1


def test_no_series_has_a_creation_time() -> None:
    metrics = Metrics()
    metrics.source("mandato")
    metrics.destination("billing")
    assert b"_created" not in metrics.render()


@pytest.mark.case("F-43")
async def test_a_long_exposition_is_written_in_parts_while_other_tasks_run() -> None:
    metrics = Metrics()
    for number in range(300):
        metrics.source(f"source-{number}").outcomes["accepted"].inc(number)
    turns, is_written = 0, False

    async def something_else() -> None:
        nonlocal turns
        while not is_written:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(something_else())
    page = await metrics.exposition()
    is_written = True
    await others

    lines = page.decode().splitlines()
    assert 'gatehouse_requests_total{outcome="accepted",source="source-299"} 299.0' in lines
    assert len(lines) > 10_000
    # A series of a histogram is the longest part. It takes about 30 microseconds.
    assert turns > 10
