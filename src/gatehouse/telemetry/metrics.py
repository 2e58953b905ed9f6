"""Defines all metrics.

Label values come from the config and from fixed sets, so the number of series is known when the config is
loaded. All series start at zero. The objects that the hot path updates are looked up once, here.
"""

from __future__ import annotations

import asyncio
import platform
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry

from gatehouse import __version__
from gatehouse.errors import OUTCOME_REASONS, REASONS
from gatehouse.telemetry import log
from gatehouse.telemetry.metric_types import ComputedGauge, Counter, Family, Gauge, Histogram, Series

if TYPE_CHECKING:
    from collections.abc import Iterator

S = TypeVar("S", bound=Series)

#: The outcomes of a request.
OUTCOMES = (
    "accepted",
    "duplicate",
    "conflict",
    "handshake",
    "malformed",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "timeout",
    "too_large",
    "unsupported_encoding",
    "unavailable",
    "relay_failed",
)
#: The outcomes of a refused request, and those of a fault of the gateway or of a destination (5xx).
REFUSED_OUTCOMES = (
    "malformed",
    "unauthorized",
    "method_not_allowed",
    "timeout",
    "too_large",
    "unsupported_encoding",
)
FAULT_OUTCOMES = ("unavailable", "relay_failed")
#: The reasons why the operator server refuses a request.
REFUSALS = ("unauthorized", "throttled", "cross_site", "forbidden")
#: The kinds of operations: replays and retries of many events.
OPERATIONS = ("replay", "retry")
#: The `source` label of requests to unknown paths.
UNKNOWN = "_unknown"

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1, 2.5, 10)
_COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 2.5)
_ATTEMPT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 21600, 86400)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


#: Seconds of writing the exposition after which other tasks run.
_MAX_STEP = 0.002


class RequestMetrics:
    """The series of every request, also for unknown paths."""

    def __init__(self, metrics: Metrics, source: str) -> None:
        self.outcomes = {name: metrics.requests.labels(source, name) for name in OUTCOMES}
        self.duration = metrics.request_duration.labels(source)


class SourceMetrics(RequestMetrics):
    """The series of one source."""

    def __init__(self, metrics: Metrics, source: str, secrets: int) -> None:
        super().__init__(metrics, source)
        #: By the position of the secret, starting at 1.
        self.secrets = {
            position: (
                metrics.verifications.labels(source, str(position)),
                metrics.secret_last_used.labels(source, str(position)),
            )
            for position in range(1, secrets + 1)
        }
        self.failures = {reason: metrics.verification_failures.labels(source, reason) for reason in REASONS}
        self.events = metrics.events.labels(source)
        self.unreadable = metrics.unreadable.labels(source)
        self.unrouted = metrics.unrouted.labels(source)
        self.ready = metrics.source_ready.labels(source)
        self.last_accepted = metrics.source_last_accepted.labels(source)


class DestinationMetrics:
    """The series of one destination."""

    def __init__(self, metrics: Metrics, destination: str) -> None:
        self.delivered = metrics.deliveries.labels(destination, "delivered")
        self.died = metrics.deliveries.labels(destination, "dead")
        self.attempts = {name: metrics.attempts.labels(destination, name) for name in OUTCOME_REASONS}
        self.attempt_duration = metrics.attempt_duration.labels(destination)
        self.lag = metrics.delivery_lag.labels(destination)
        self.lost_leases = metrics.lost_leases.labels(destination)
        self.pending = metrics.pending.labels(destination)
        self.dead = metrics.dead.labels(destination)
        self.oldest_pending_age = metrics.oldest_pending_age.labels(destination)
        self.breaker_open = metrics.breaker_open.labels(destination)
        self.paused = metrics.paused.labels(destination)
        self.concurrency_limit = metrics.concurrency_limit.labels(destination)


class _LinesDropped(Counter):
    """Reads its value from the log writer."""

    def values(self) -> list[float]:
        return [log.lines_dropped()]


class ProcessMetrics:
    """The metrics of every process with an operator server: config, operator server, process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._families: list[Family[Series]] = []
        self._families_by_label: dict[str, list[Family[Series]]] = {"source": [], "destination": []}
        self._process_metrics()

    def _process_metrics(self) -> None:
        self.reload_successful = self._gauge(
            "config_last_reload_successful", "1 when the config that was read last is in use."
        ).labels()
        self.reload_success_time = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When a config was last loaded successfully."
        ).labels()
        refused = self._counter(
            "operator_refused_total", "Requests that the operator listener refused.", "reason"
        )
        #: By reason.
        self.operator_refused = {reason: refused.labels(reason) for reason in REFUSALS}
        self._register(
            Family(
                "gatehouse_log_lines_dropped_total",
                "Log lines dropped because the reader was too slow or the write failed.",
                (),
                _LinesDropped,
                Counter.kind,
            ),
            (),
        ).labels()
        self.stream_readers = self._gauge(
            "stream_readers", "Clients that read the stream of the operator API."
        ).labels()
        self.stream_left_out = self._counter(
            "stream_left_out_total", "Entries of the stream that readers were too slow for."
        ).labels()
        self.build_info = self._gauge(
            "build_info", "Always 1. The labels hold the versions.", "version", "python"
        )
        self.build_info.labels(__version__, platform.python_version()).set(1)
        self.reload_successful.set(1)
        process = prometheus_client.ProcessCollector(registry=self.registry)
        self._process = CollectorRegistry()
        self._process.register(process)

    def render(self) -> bytes:
        """Return the text exposition format, written in one step."""
        return self._encode("".join(self._parts()))

    async def exposition(self) -> bytes:
        """Return the text exposition format. Other tasks run in between."""
        parts: list[str] = []
        until = time.perf_counter() + _MAX_STEP
        for part in self._parts():
            parts.append(part)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _MAX_STEP
        return self._encode("".join(parts))

    def _parts(self) -> Iterator[str]:
        for family in tuple(self._families):
            yield from family.write()

    def _encode(self, families: str) -> bytes:
        return families.encode() + prometheus_client.generate_latest(self._process)

    def _counter(self, name: str, help_text: str, *labels: str) -> Family[Counter]:
        return self._register(Family(f"gatehouse_{name}", help_text, labels, Counter, Counter.kind), labels)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Family[Gauge]:
        return self._register(Family(f"gatehouse_{name}", help_text, labels, Gauge, Gauge.kind), labels)

    def _histogram(
        self, name: str, help_text: str, bounds: tuple[float, ...], *labels: str
    ) -> Family[Histogram]:
        make = partial(Histogram, bounds)
        return self._register(Family(f"gatehouse_{name}", help_text, labels, make, Histogram.kind), labels)

    def _register(self, family: Family[S], labels: tuple[str, ...]) -> Family[S]:
        self.registry.register(family)
        self._families.append(family)
        for label in self._families_by_label.keys() & set(labels):
            self._families_by_label[label].append(family)
        return family


class SupervisorMetrics(ProcessMetrics):
    """The additional metrics of the supervisor of several workers."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        up = self._gauge("worker_up", "1 while the worker serves requests.", "worker")
        ended = self._counter("worker_ended_total", "How often the worker ended unexpectedly.", "worker")
        #: By the number of the worker, starting at 1.
        self.worker_up = {number: up.labels(str(number)) for number in range(1, workers + 1)}
        self.worker_ended = {number: ended.labels(str(number)) for number in range(1, workers + 1)}


class Metrics(ProcessMetrics):
    """All metrics of a gateway."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._request_metrics()
        self._delivery_metrics()
        self._store_metrics()

    def _request_metrics(self) -> None:
        self.requests = self._counter("requests_total", "Requests by outcome.", "source", "outcome")
        self.verification_failures = self._counter(
            "verification_failures_total", "Requests that failed verification, by reason.", "source", "reason"
        )
        self.verifications = self._counter(
            "verifications_total",
            "Verified requests, by the position of the secret in the list, starting at 1.",
            "source",
            "secret",
        )
        self.secret_last_used = self._gauge(
            "secret_last_used_timestamp_seconds",
            "When the secret last verified a request; 0: not since the start.",
            "source",
            "secret",
        )
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "Time from the head of a request to its answer.",
            _REQUEST_BUCKETS,
            "source",
        )
        self.commit_duration = self._histogram(
            "commit_duration_seconds",
            "Time to commit a batch of events to the store, including fsync.",
            _COMMIT_BUCKETS,
        ).labels()
        self.commit_batch = self._histogram(
            "commit_batch_events", "Events per commit.", _BATCH_BUCKETS
        ).labels()
        self.events = self._counter("events_total", "Stored events.", "source")
        self.unreadable = self._counter(
            "unreadable_events_total", "Events stored as gatehouse.unreadable.", "source"
        )
        self.unrouted = self._counter(
            "unrouted_events_total", "Stored events that no route takes. They are not delivered.", "source"
        )
        self.source_ready = self._gauge("source_ready", "1 when the source has its secrets.", "source")
        self.source_last_accepted = self._gauge(
            "source_last_accepted_timestamp_seconds",
            "When the source last had an event accepted; 0: never.",
            "source",
        )

    def _delivery_metrics(self) -> None:
        self.deliveries = self._counter(
            "deliveries_total", "Finished deliveries: delivered or dead.", "destination", "result"
        )
        self.attempts = self._counter("attempts_total", "Attempts by result.", "destination", "reason")
        self.attempt_duration = self._histogram(
            "attempt_duration_seconds", "Duration of one attempt.", _ATTEMPT_BUCKETS, "destination"
        )
        self.delivery_lag = self._histogram(
            "delivery_lag_seconds",
            "Time from the receipt of an event to its delivery.",
            _LAG_BUCKETS,
            "destination",
        )
        self.lost_leases = self._counter(
            "lost_leases_total",
            "Outcomes that arrived after the lease was lost. They change nothing.",
            "destination",
        )
        self.pending = self._gauge("deliveries_pending", "Pending deliveries.", "destination")
        self.dead = self._gauge("deliveries_dead", "Dead letters in the store.", "destination")
        self.oldest_pending_age = self._register(
            Family(
                "gatehouse_oldest_pending_age_seconds",
                "Age of the oldest pending delivery.",
                ("destination",),
                ComputedGauge,
                ComputedGauge.kind,
            ),
            ("destination",),
        )
        self.breaker_open = self._gauge(
            "breaker_open", "1 while the circuit breaker of a destination is open.", "destination"
        )
        self.paused = self._gauge(
            "destination_paused", "1 while an operator has paused the destination.", "destination"
        )

        self.concurrency_limit = self._gauge(
            "delivery_concurrency_limit",
            "Attempts of a destination that may run at the same time.",
            "destination",
        )

        replayed = self._counter(
            "replay_events_total",
            "Events that replays and retries of many events processed.",
            "kind",
            "result",
        )
        #: By the kind of the operation and the result.
        self.replayed_events = {
            (kind, result): replayed.labels(kind, result)
            for kind in OPERATIONS
            for result in ("done", "failed")
        }

    def _store_metrics(self) -> None:
        self.store_bytes = self._gauge("store_bytes", "Size of the store on disk.").labels()
        self.store_free_bytes = self._gauge(
            "store_free_bytes", "Free space on the disk of the store."
        ).labels()

    def source(self, name: str, secrets: int = 0) -> SourceMetrics:
        """Return the series of a source with this number of secrets. Creates them at zero."""
        return SourceMetrics(self, name, secrets)

    def unknown(self) -> RequestMetrics:
        """Return the series of requests to unknown paths."""
        return RequestMetrics(self, UNKNOWN)

    def destination(self, name: str) -> DestinationMetrics:
        """Return the series of a destination. Creates them at zero."""
        return DestinationMetrics(self, name)

    def forget_source(self, name: str) -> None:
        """Remove the series of a source that is no longer configured."""
        self._forget("source", name)

    def forget_destination(self, name: str) -> None:
        """Remove the series of a destination that is no longer configured and has no deliveries left."""
        self._forget("destination", name)

    def _forget(self, label: str, value: str) -> None:
        for family in self._families_by_label[label]:
            family.remove_by_labels({label: value})
