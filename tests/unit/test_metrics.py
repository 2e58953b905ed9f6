"""Every series exists from the start, at zero, and requests add none."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gatehouse.errors import OUTCOME_REASONS, REASONS
from gatehouse.telemetry.metrics import OUTCOMES, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_all_series_of_a_source_start_at_zero() -> None:
    metrics = Metrics()
    metrics.source("mandato")
    found = samples(metrics)

    for outcome in OUTCOMES:
        assert found["gatehouse_requests_total", (("outcome", outcome), ("source", "mandato"))] == 0
    for reason in REASONS:
        key = ("gatehouse_verification_failures_total", (("reason", reason), ("source", "mandato")))
        assert found[key] == 0


def test_all_series_of_a_destination_start_at_zero() -> None:
    metrics = Metrics()
    metrics.destination("billing")
    found = samples(metrics)

    for reason in OUTCOME_REASONS:
        assert found["gatehouse_attempts_total", (("destination", "billing"), ("reason", reason))] == 0
    for result in ("delivered", "dead"):
        assert found["gatehouse_deliveries_total", (("destination", "billing"), ("result", result))] == 0
    for gauge in ("deliveries_pending", "deliveries_dead", "oldest_pending_age_seconds", "breaker_open"):
        assert found[f"gatehouse_{gauge}", (("destination", "billing"),)] == 0


def test_a_second_lookup_adds_no_series() -> None:
    metrics = Metrics()
    metrics.source("a")
    before = len(samples(metrics))
    metrics.source("a").outcomes["accepted"].inc()

    assert len(samples(metrics)) == before


def test_two_gateways_in_one_process_do_not_share_series() -> None:
    first, second = Metrics(), Metrics()
    first.source("a").events.inc()
    second.source("a")

    assert samples(second)["gatehouse_events_total", (("source", "a"),)] == 0
