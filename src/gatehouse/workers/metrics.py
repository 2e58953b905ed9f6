"""Collects the metrics of all workers and merges them into one exposition."""

from __future__ import annotations

import asyncio
import operator
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

#: Seconds for the metrics of a worker. Prometheus itself gives up after 10.
_TIMEOUT = 2.0
#: The `worker` label of the supervisor's own series.
SUPERVISOR = "supervisor"
#: How the values of a gauge are merged. Values from the store are the same for all workers, apart from the
#: time of the count. A state that needs attention shows as soon as one worker is in it.
GAUGES: Mapping[str, Callable[[float, float], float]] = {
    "gatehouse_source_ready": min,
    "gatehouse_source_last_accepted_timestamp_seconds": max,
    "gatehouse_secret_last_used_timestamp_seconds": max,
    "gatehouse_deliveries_pending": max,
    "gatehouse_deliveries_dead": max,
    "gatehouse_oldest_pending_age_seconds": max,
    "gatehouse_breaker_open": max,
    "gatehouse_destination_paused": max,
    "gatehouse_delivery_concurrency_limit": operator.add,
    "gatehouse_config_last_reload_successful": min,
    "gatehouse_config_last_reload_success_timestamp_seconds": max,
    "gatehouse_store_bytes": max,
    "gatehouse_store_free_bytes": min,
    "gatehouse_build_info": max,
    "gatehouse_stream_readers": max,
}
_SUMMED = ("counter", "histogram")
#: The prefix of process metrics, whose sum says little or nothing.
_PROCESS_PREFIX = "process_"
#: A series: its name and its sorted labels.
_Series = tuple[str, tuple[tuple[str, str], ...]]


class MergedMetrics:
    """Merges the metrics of the workers and of the supervisor."""

    def __init__(self, own: SupervisorMetrics, workers: Sequence[WorkerProcess]) -> None:
        self._own = own
        self._workers = workers
        #: The last metrics of each running worker.
        self._last: dict[int, list[Metric]] = {}
        #: The last counts of the workers that have ended. Without them, a sum would fall when a worker ends.
        #: Prometheus takes a falling counter for a restart, and would count the remaining sum a second time.
        self._ended: list[Metric] = []
        self._lock = asyncio.Lock()

    async def exposition(self) -> bytes:
        """Collect the metrics of all workers and return the text exposition format."""
        async with self._lock:
            await asyncio.gather(*map(self._collect, self._workers))
            return await asyncio.to_thread(self._render, list(self._last.items()), self._ended)

    def worker_ended(self, number: int) -> None:
        """Keep the last counts of a worker that has ended."""
        last = cumulative(self._last.pop(number, ()))
        self._ended = merge([WorkerMetrics("", self._ended), WorkerMetrics("", last)])

    async def _collect(self, worker: WorkerProcess) -> None:
        start = worker.starts
        try:
            answer = await worker.client.request("/metrics", within=_TIMEOUT)
            families = await asyncio.to_thread(parse, answer.body)
        except (NoAnswerError, ValueError):
            return  # the last metrics stay valid while the worker runs
        if worker.is_running and worker.starts == start:
            self._last[worker.number] = families

    def _render(self, last: Iterable[tuple[int, list[Metric]]], ended: list[Metric]) -> bytes:
        running = [WorkerMetrics(str(number), families) for number, families in last]
        if running:
            # A reload may have removed a source or destination since.
            ended = keep_known_series(ended, [family for _, families in running for family in families])
        own = list(self._own.registry.collect())
        return render(merge([*running, WorkerMetrics("", ended), WorkerMetrics(SUPERVISOR, own)]))


class WorkerMetrics(NamedTuple):
    """The metrics of one process."""

    #: The `worker` label for process metrics.
    worker: str
    families: Sequence[Metric]


def parse(exposition: bytes) -> list[Metric]:
    """Parse the text exposition format. Raises `ValueError`."""
    return list(text_string_to_metric_families(exposition.decode()))


def render(families: Iterable[Metric]) -> bytes:
    """Return the text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return prometheus_client.generate_latest(registry)


def merge(exposed: Iterable[WorkerMetrics]) -> list[Metric]:
    """Merge several expositions: counters and histograms are added, gauges are merged by their meaning."""
    merged: dict[str, _MergedFamily] = {}
    for worker, families in exposed:
        for family in families:
            into = merged.setdefault(family.name, _MergedFamily(family))
            into.add(
                _with_worker_label(family, worker)
                if family.name.startswith(_PROCESS_PREFIX)
                else family.samples
            )
    return [merging.family() for merging in merged.values()]


def cumulative(families: Iterable[Metric]) -> list[Metric]:
    """Return the counters and histograms, which stay valid when their process has ended."""
    return [
        family
        for family in families
        if family.type in _SUMMED and not family.name.startswith(_PROCESS_PREFIX)
    ]


def keep_known_series(families: Iterable[Metric], others: Iterable[Metric]) -> list[Metric]:
    """Return the families with only those series that some of the others have."""
    known = {_series(sample) for family in others for sample in family.samples}
    return [
        _family(family, [sample for sample in family.samples if _series(sample) in known])
        for family in families
    ]


class _Collected(Collector):
    """A collector for given families."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _MergedFamily:
    """One family while it is merged."""

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


def _with_worker_label(family: Metric, worker: str) -> Iterator[Sample]:
    for sample in family.samples:
        yield Sample(sample.name, {"worker": worker, **sample.labels}, sample.value)


def _add(first: float, second: float) -> float:
    return first + second
