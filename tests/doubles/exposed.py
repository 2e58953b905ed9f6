"""What a scrape of metrics finds, read with the parser of prometheus_client."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gatehouse.telemetry.metrics import ProcessMetrics


def families(metrics: ProcessMetrics) -> list[Metric]:
    """Return all metrics with their samples."""
    return list(text_string_to_metric_families(metrics.render().decode()))


def value_of(metrics: ProcessMetrics, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """Return the value of a series; None if there is none with exactly these labels."""
    # Only the family of this name is parsed, because tests ask often.
    text = "".join(part for one in metrics._families if name in one.names() for part in one.write())
    found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    wanted = (name, dict(labels or {}))
    return next((sample.value for sample in found if (sample.name, sample.labels) == wanted), None)
