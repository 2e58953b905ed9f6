"""The metrics of several workers are merged: sums, states, and process metrics."""

from __future__ import annotations

from prometheus_client.core import Metric

from gatehouse.telemetry.metrics import Metrics, SupervisorMetrics
from gatehouse.workers.metrics import (
    GAUGES,
    WorkerMetrics,
    cumulative,
    keep_known_series,
    merge,
    parse,
    render,
)

Values = dict[tuple[str, ...], float]


def exposed(*workers: Metrics | SupervisorMetrics) -> list[WorkerMetrics]:
    return [WorkerMetrics(str(number), parse(one.render())) for number, one in enumerate(workers, 1)]


def values(families: list[Metric]) -> Values:
    """Read the merged exposition as Prometheus does: by name and label values, sorted by label name."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(render(families))
        for sample in family.samples
    }


def two() -> tuple[Metrics, Metrics]:
    return Metrics(), Metrics()


def test_counters_are_summed() -> None:
    one, other = two()
    one.source("shop").outcomes["accepted"].inc(3)
    other.source("shop").outcomes["accepted"].inc(4)
    other.source("mail").outcomes["accepted"].inc(5)

    merged = values(merge(exposed(one, other)))

    assert merged["gatehouse_requests_total", "accepted", "shop"] == 7
    assert merged["gatehouse_requests_total", "accepted", "mail"] == 5
    assert merged["gatehouse_requests_total", "duplicate", "shop"] == 0


def test_histograms_are_summed_bucket_by_bucket() -> None:
    one, other = two()
    one.commit_duration.observe(0.002)
    other.commit_duration.observe(0.002)
    other.commit_duration.observe(0.2)

    merged = values(merge(exposed(one, other)))

    assert merged["gatehouse_commit_duration_seconds_bucket", "0.001"] == 0
    assert merged["gatehouse_commit_duration_seconds_bucket", "0.0025"] == 2
    assert merged["gatehouse_commit_duration_seconds_bucket", "0.25"] == 3
    assert merged["gatehouse_commit_duration_seconds_bucket", "+Inf"] == 3
    assert merged["gatehouse_commit_duration_seconds_count",] == 3
    assert round(merged["gatehouse_commit_duration_seconds_sum",], 6) == 0.204


def test_values_from_the_store_are_not_added() -> None:
    one, other = two()
    for metrics, pending in ((one, 10), (other, 12)):
        metrics.destination("app").pending.set(pending)
        metrics.store_bytes.set(4096)

    merged = values(merge(exposed(one, other)))

    assert merged["gatehouse_deliveries_pending", "app"] == 12
    assert merged["gatehouse_store_bytes",] == 4096


def test_a_state_of_one_worker_is_visible() -> None:
    one, other = two()
    one.destination("app").breaker_open.set(1)
    other.destination("app").breaker_open.set(0)
    one.source("shop").ready.set(1)
    other.source("shop").ready.set(0)
    other.reload_successful.set(0)

    merged = values(merge(exposed(one, other)))

    assert merged["gatehouse_breaker_open", "app"] == 1
    assert merged["gatehouse_source_ready", "shop"] == 0
    assert merged["gatehouse_config_last_reload_successful",] == 0


def test_the_last_accepted_request_is_the_latest_of_all_workers() -> None:
    one, other = two()
    one.source("shop").last_accepted.set(1_700_000_000.25)
    other.source("shop").last_accepted.set(1_600_000_000)

    merged = values(merge(exposed(one, other)))

    assert merged["gatehouse_source_last_accepted_timestamp_seconds", "shop"] == 1_700_000_000.25


def test_process_metrics_have_a_worker_label() -> None:
    merged = merge(exposed(*two()))
    (memory,) = [family for family in merged if family.name == "process_resident_memory_bytes"]

    assert [sample.labels for sample in memory.samples] == [{"worker": "1"}, {"worker": "2"}]


def test_the_order_of_labels_does_not_matter() -> None:
    supervisor = SupervisorMetrics(2)
    own = WorkerMetrics("supervisor", list(supervisor.registry.collect()))

    text = render(merge([*exposed(*two()), own])).decode()
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]

    assert len(series) == len(set(series))
    assert text.count("\ngatehouse_build_info{") == 1


def test_every_gauge_has_a_merge_rule() -> None:
    """A new gauge needs a rule for several workers."""
    families = [*Metrics().registry.collect(), *SupervisorMetrics(1).registry.collect()]
    gauges = {family.name for family in families if family.type == "gauge"}
    of_one_process = {name for name in gauges if name.startswith(("process_", "gatehouse_worker_"))}

    assert set(GAUGES) == gauges - of_one_process


def test_a_single_exposition_stays_unchanged() -> None:
    metrics = Metrics()
    metrics.source("shop").outcomes["accepted"].inc(3)
    metrics.destination("app").lag.observe(7)
    families = parse(metrics.render())

    merged = values(merge([WorkerMetrics("1", families)]))

    assert {key: value for key, value in merged.items() if not key[0].startswith("process_")} == {
        key: value for key, value in values(families).items() if not key[0].startswith("process_")
    }


def test_the_counts_of_an_ended_worker_stay_in_the_sum() -> None:
    one, other = two()
    one.source("shop").outcomes["accepted"].inc(3)
    one.destination("app").pending.set(8)
    other.source("shop").outcomes["accepted"].inc(4)
    wait_until_ended = cumulative(parse(one.render()))

    merged = values(merge([*exposed(other), WorkerMetrics("", wait_until_ended)]))

    assert merged["gatehouse_requests_total", "accepted", "shop"] == 7
    assert ("gatehouse_deliveries_pending", "app") not in merged, "that is a state, and nobody's any more"


def test_the_counts_of_an_ended_worker_are_removed_with_the_source() -> None:
    one, other = two()
    one.source("gone").outcomes["accepted"].inc(3)
    one.source("shop").outcomes["accepted"].inc(3)
    other.source("shop").outcomes["accepted"].inc(4)
    running = parse(other.render())

    left = values(keep_known_series(cumulative(parse(one.render())), running))

    assert left["gatehouse_requests_total", "accepted", "shop"] == 3
    assert ("gatehouse_requests_total", "accepted", "gone") not in left


def test_the_supervisor_has_a_series_for_each_worker_from_the_start() -> None:
    found = values(list(SupervisorMetrics(2).registry.collect()))

    assert found["gatehouse_worker_up", "1"] == found["gatehouse_worker_up", "2"] == 0
    assert found["gatehouse_worker_ended_total", "2"] == 0
