"""The alert rules and their cases: complete, about metrics that exist, and accepted by promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatehouse.telemetry.metrics import Metrics, SupervisorMetrics

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
CREDENTIALS = "/run/secrets/operator_token"

#: The metrics that docs/operations.md promises. Alerts use no others.
PROMISED = {
    "gatehouse_requests_total",
    "gatehouse_verification_failures_total",
    "gatehouse_request_duration_seconds",
    "gatehouse_commit_duration_seconds",
    "gatehouse_commit_batch_events",
    "gatehouse_events_total",
    "gatehouse_unreadable_events_total",
    "gatehouse_deliveries_total",
    "gatehouse_attempts_total",
    "gatehouse_attempt_duration_seconds",
    "gatehouse_delivery_lag_seconds",
    "gatehouse_deliveries_pending",
    "gatehouse_deliveries_dead",
    "gatehouse_oldest_pending_age_seconds",
    "gatehouse_worker_up",
    "gatehouse_breaker_open",
    "gatehouse_source_ready",
    "gatehouse_source_last_accepted_timestamp_seconds",
    "gatehouse_config_last_reload_successful",
    "gatehouse_store_bytes",
    "gatehouse_store_free_bytes",
    "gatehouse_operator_refused_total",
    "gatehouse_build_info",
}
SELECTOR = re.compile(r"\b(gatehouse_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=|!=)"([^"]*)"')


def _read(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


RULES = {rule["alert"]: rule for group in _read("gatehouse.rules.yml")["groups"] for rule in group["rules"]}
CASES = _read("gatehouse.rules.test.yml")["tests"]

each_alert = pytest.mark.parametrize("alert", RULES)


def _metrics(text: str) -> set[str]:
    return {name.removesuffix("_bucket") for name, _ in SELECTOR.findall(text)}


def _series() -> dict[str, list[dict[str, str]]]:
    """Every series that gateways with a source, a destination and workers export: name → label sets."""
    metrics = Metrics()
    metrics.source("mandato")
    metrics.destination("billing")
    series: dict[str, list[dict[str, str]]] = {}
    for one in (metrics, SupervisorMetrics(2)):
        for family in one.registry.collect():
            for sample in family.samples:
                series.setdefault(sample.name, []).append(sample.labels)
    return series


@each_alert
def test_alert_says_how_urgent_it_is_what_happened_and_what_to_do(alert: str) -> None:
    rule = RULES[alert]

    assert alert.startswith("Gatehouse")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    assert all(rule["annotations"].values())


@each_alert
def test_alert_uses_only_promised_metrics(alert: str) -> None:
    rule = RULES[alert]

    assert _metrics(rule["expr"]) <= PROMISED
    # The annotations name metrics, log lines and other alerts.
    assert _metrics(" ".join(rule["annotations"].values())) <= PROMISED


@each_alert
def test_alert_selects_series_that_the_gateway_exports(alert: str) -> None:
    """A typo in a label or a label value would make an alert that never fires."""
    series = _series()

    for name, matchers in SELECTOR.findall(RULES[alert]["expr"]):
        for label, operator, value in MATCHER.findall(matchers):
            assert all(label in labels for labels in series[name]), f"{name} has no label {label}"
            is_known = value == "_unknown" or any(labels[label] == value for labels in series[name])
            assert is_known, f"{name} has no {label}{operator}{value}"
    for label in re.findall(r"\$labels\.(\w+)", " ".join(RULES[alert]["annotations"].values())):
        exported = {key for name in series for labels in series[name] for key in labels}
        assert label in exported | {"instance", "job"}


@each_alert
def test_alert_has_a_firing_and_a_quiet_case(alert: str) -> None:
    cases = [
        (check, test["input_series"])
        for test in CASES
        for check in test["alert_rule_test"]
        if check["alertname"] == alert
    ]
    firing = [check for check, _ in cases if check["exp_alerts"]]
    quiet = [series for check, series in cases if not check["exp_alerts"]]

    assert firing, "no case in which it fires"
    assert quiet, "no case in which it is quiet"
    # Without the alert's metrics, a quiet case would be quiet with any rule.
    for series in quiet:
        given = " ".join(entry["series"] for entry in series)
        assert _metrics(RULES[alert]["expr"]) <= _metrics(given)


def test_cases_are_about_alerts_that_exist() -> None:
    assert {check["alertname"] for test in CASES for check in test["alert_rule_test"]} == set(RULES)


def test_promtool_accepts_the_rules(promtool: str) -> None:
    _run(promtool, "check", "rules", "gatehouse.rules.yml")


def test_promtool_runs_the_cases(promtool: str) -> None:
    _run(promtool, "test", "rules", "gatehouse.rules.test.yml")


def test_promtool_accepts_the_scrape_config(promtool: str, tmp_path: Path) -> None:
    """The test creates the credentials file that promtool needs. Nothing else is changed."""
    token = tmp_path / "operator_token"
    token.write_text("made up for this test\n")
    shutil.copy(PROMETHEUS / "gatehouse.rules.yml", tmp_path)
    config = tmp_path / "prometheus.yml"
    config.write_text((PROMETHEUS / config.name).read_text().replace(CREDENTIALS, str(token)))

    _run(promtool, "check", "config", str(config))


def test_prometheus_scrapes_under_the_name_that_the_alerts_use() -> None:
    (scrape,) = _read("prometheus.yml")["scrape_configs"]

    assert f'up{{job="{scrape["job_name"]}"}}' in RULES["GatehouseDown"]["expr"]
    assert scrape["authorization"] == {"credentials_file": CREDENTIALS}


def _run(promtool: str, *arguments: str) -> None:
    run = subprocess.run(
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=50
    )
    assert run.returncode == 0, run.stdout + run.stderr
