"""The circuit breaker stops attempts while a destination is down, and finds out when it is back."""

from __future__ import annotations

import math

import pytest

from gatehouse.delivery.breaker import Breaker, BreakerSettings
from gatehouse.errors import OUTCOME_REASONS, OutcomeReason


def failing(times: int = 5, at: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerSettings())
    for _ in range(times):
        assert breaker.admit(at)
        breaker.observe("server_error", at, probe=False)
    return breaker


def probe(breaker: Breaker, at: float, reason: OutcomeReason) -> None:
    assert breaker.admit(at)
    breaker.observe(reason, at, probe=True)


def test_five_failures_in_a_row_open_it() -> None:
    assert not failing(4).is_open
    assert failing(5).is_open


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = failing(4)
    breaker.observe("ok", 0, probe=False)
    for _ in range(4):
        breaker.observe("timeout", 0, probe=False)
    assert not breaker.is_open


@pytest.mark.case("O-10")
def test_nothing_is_admitted_for_thirty_seconds_then_one_probe() -> None:
    breaker = failing()
    assert breaker.delay(0) == 30
    assert not breaker.admit(29.9)
    assert breaker.admit(30)
    assert not breaker.admit(30)
    assert breaker.delay(1000) == math.inf


def test_a_hastened_probe_may_start_at_once_but_never_a_second_one() -> None:
    breaker = failing()
    breaker.hasten_probe(10)
    assert breaker.admit(10)
    breaker.hasten_probe(10)
    assert not breaker.admit(10)
    breaker.observe("connect", 10, probe=True)
    assert breaker.delay(10) == 60
    breaker.hasten_probe(20)
    probe(breaker, 20, "ok")
    breaker.hasten_probe(20)
    assert not breaker.is_open


@pytest.mark.case("O-11")
def test_a_failed_probe_doubles_the_time_up_to_a_minute() -> None:
    breaker, now, pauses = failing(), 0.0, []
    for _ in range(6):
        pauses.append(breaker.delay(now))
        now += breaker.delay(now)
        probe(breaker, now, "connect")
    assert pauses == [30, 60, 60, 60, 60, 60]


def test_a_successful_probe_closes_it_and_forgets() -> None:
    breaker = failing()
    probe(breaker, 30, "timeout")
    probe(breaker, 90, "ok")
    assert not breaker.is_open
    assert breaker.delay(90) == 0
    for _ in range(5):
        breaker.observe("timeout", 100, probe=False)
    assert breaker.delay(100) == 30


def test_failures_of_attempts_that_started_before_it_opened_change_nothing() -> None:
    breaker = failing()
    breaker.observe("timeout", 10, probe=False)
    assert breaker.delay(10) == 20
    assert breaker.admit(30)
    breaker.observe("timeout", 31, probe=False)
    assert breaker.delay(31) == math.inf


def test_a_success_of_an_attempt_that_started_before_it_opened_closes_it() -> None:
    breaker = failing()
    breaker.observe("ok", 1, probe=False)
    assert not breaker.is_open


def test_after_a_probe_that_could_not_be_sent_the_next_one_may_start() -> None:
    breaker = failing()
    probe(breaker, 30, "unsendable")
    assert breaker.is_open
    assert breaker.admit(30)


@pytest.mark.parametrize("reason", OUTCOME_REASONS)
def test_only_outcomes_of_a_destination_that_is_down_count(reason: OutcomeReason) -> None:
    breaker = failing(4)
    breaker.observe(reason, 0, probe=False)
    assert breaker.is_open == (reason not in {"ok", "rejected", "gone", "unsendable"})
