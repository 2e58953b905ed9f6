"""Collects the metrics of all workers and merges them into one exposition."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from gatehouse.workers.process import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from gatehouse.telemetry.metrics import SupervisorMetrics
    from gatehouse.workers.process import WorkerProcess

#: Seconds that a worker has for its metrics. Prometheus itself gives up after 10.
_WITHIN = 2.0
#: The `worker` label of the supervisor's own series.
SUPERVISOR = "supervisor"


class MergedMetrics:
    """Merges what the workers expose, and the supervisor with them."""

    def __init__(self, own: SupervisorMetrics, processes: Sequence[WorkerProcess]) -> None:
        self._own = own
        self._processes = processes
        #: What each worker that runs exposed last.
        self._last: dict[int, list[Metric]] = {}
        #: What those that have ended had counted. Without it a sum would fall when one of them ends, which
        #: Prometheus takes for a restart of all: it would add the whole of what is left a second time.
        self._ended: list[Metric] = []
        self._one_at_a_time = asyncio.Lock()

    async def exposition(self) -> bytes:
        """Ask all workers, and write what they say in the text exposition format."""
        async with self._one_at_a_time:
            await asyncio.gather(*map(self._ask, self._processes))
            return await asyncio.to_thread(self._render, list(self._last.items()), self._ended)

    def worker_ended(self, number: int) -> None:
        """Keep what a worker had counted when it was last asked."""
        last = cumulative(self._last.pop(number, ()))
        self._ended = merge([WorkerMetrics("", self._ended), WorkerMetrics("", last)])

    async def _ask(self, process: WorkerProcess) -> None:
        start = process.starts
        try:
            answer = await process.client.request("/metrics", within=_WITHIN)
            families = await asyncio.to_thread(parse, answer.body)
        except (NoAnswerError, ValueError):
            return  # what it said last stands, as long as it runs
        if process.is_running and process.starts == start:
            self._last[process.number] = families

    def _render(self, last: Iterable[tuple[int, list[Metric]]], ended: list[Metric]) -> bytes:
        running = [WorkerMetrics(str(number), families) for number, families in last]
        if running:
            # A reload may have taken a source or destination away since.
            ended = keep_known_series(ended, [family for _, families in running for family in families])
        own = list(self._own.registry.collect())
        return render(merge([*running, WorkerMetrics("", ended), WorkerMetrics(SUPERVISOR, own)]))


#: What the workers' values of a gauge come to. What is in the store is the same for all of them, but not
#: always counted at the same moment; a state that somebody should look at shows when one worker is in it.
GAUGES: Mapping[str, Callable[[float, float], float]] = {
    "gatehouse_source_ready": min,
    "gatehouse_source_last_accepted_timestamp_seconds": max,
    "gatehouse_secret_last_used_timestamp_seconds": max,
    "gatehouse_deliveries_pending": max,
    "gatehouse_deliveries_dead": max,
    "gatehouse_oldest_pending_age_seconds": max,
    "gatehouse_breaker_open": max,
    "gatehouse_destination_paused": max,
    "gatehouse_config_last_reload_successful": min,
    "gatehouse_config_last_reload_success_timestamp_seconds": max,
    "gatehouse_store_bytes": max,
    "gatehouse_store_free_bytes": min,
    "gatehouse_build_info": max,
}
_SUMMED = ("counter", "histogram")
#: What is about a process: a sum of such numbers says little, and of some of them nothing.
_OF_A_PROCESS = "process_"

#: A series: its name, and its labels in order.
_Series = tuple[str, tuple[tuple[str, str], ...]]


class WorkerMetrics(NamedTuple):
    """What one process exposes."""

    #: Its `worker` label, where there is one for each process.
    worker: str
    families: Sequence[Metric]


def parse(exposition: bytes) -> list[Metric]:
    """Read the text exposition format. Raises `ValueError`."""
    return list(text_string_to_metric_families(exposition.decode()))


def render(families: Iterable[Metric]) -> bytes:
    """Write the text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return prometheus_client.generate_latest(registry)


def merge(exposed: Iterable[WorkerMetrics]) -> list[Metric]:
    """Make one exposition of several: counters and histograms summed, gauges by their meaning."""
    merged: dict[str, _MergedFamily] = {}
    for worker, families in exposed:
        for family in families:
            into = merged.setdefault(family.name, _MergedFamily(family))
            into.add(_labelled(family, worker) if family.name.startswith(_OF_A_PROCESS) else family.samples)
    return [merging.family() for merging in merged.values()]


def cumulative(families: Iterable[Metric]) -> list[Metric]:
    """Return what is a sum over time: that goes on to be true of a process that has ended."""
    return [
        family for family in families if family.type in _SUMMED and not family.name.startswith(_OF_A_PROCESS)
    ]


def keep_known_series(families: Iterable[Metric], others: Iterable[Metric]) -> list[Metric]:
    """Return the families without the series that none of the others has."""
    known = {_series(sample) for family in others for sample in family.samples}
    return [
        _family(family, [sample for sample in family.samples if _series(sample) in known])
        for family in families
    ]


class _Collected(Collector):
    """Families as a collector, which is what can be rendered."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _MergedFamily:
    """One family, as far as it is merged."""

    def __init__(self, like: Metric) -> None:
        self._like = like
        self._values: dict[_Series, float] = {}
        self._merge = _add if like.type in _SUMMED else GAUGES.get(like.name, max)

    def add(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            series, value = _series(sample), sample.value
            known = self._values.get(series)
            self._values[series] = value if known is None else self._merge(known, value)

    def family(self) -> Metric:
        samples = [Sample(name, dict(labels), value) for (name, labels), value in self._values.items()]
        return _family(self._like, samples)


def _series(sample: Sample) -> _Series:
    return sample.name, tuple(sorted(sample.labels.items()))


def _family(like: Metric, samples: list[Sample]) -> Metric:
    family = Metric(like.name, like.documentation, like.type)
    family.samples = samples
    return family


def _labelled(family: Metric, worker: str) -> Iterator[Sample]:
    for sample in family.samples:
        yield Sample(sample.name, {"worker": worker, **sample.labels}, sample.value)


def _add(one: float, other: float) -> float:
    return one + other
