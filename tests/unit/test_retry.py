"""Whether and when to retry."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from gatehouse.config.model import RetryConfig
from gatehouse.config.quantities import parse_status_range
from gatehouse.delivery.outcome import Outcome, reason_for
from gatehouse.delivery.retry import (
    REFUSAL_PAUSES,
    Decision,
    RetryRule,
    decide,
    is_refused,
    parse_retry_after,
    retry_rule,
)
from gatehouse.errors import OUTCOME_REASONS, OutcomeReason

NOW = 1_700_000_000.0
DEFAULT = RetryConfig()


def the_longest(_: float, longest: float) -> float:
    return longest


def the_shortest(shortest: float, _: float) -> float:
    return shortest


def decided(
    reason: OutcomeReason,
    *,
    attempts: int = 1,
    refusals: int = 1,
    age: float = 0.0,
    retry_after: float | None = None,
    policy: RetryConfig = DEFAULT,
    uniform: object = the_longest,
    rule: RetryRule = None,
) -> Decision:
    return decide(
        Outcome(reason, None, 0.1, retry_after),
        attempts=attempts,
        refusals=refusals,
        received=NOW - age,
        now=NOW,
        policy=policy,
        uniform=uniform,  # type: ignore[arg-type]
        rule=rule,
    )


def expected_first_decision(status: int) -> str:
    if 200 <= status <= 299:
        return "delivered"
    return "dead" if status == 410 else "pending"


def expected_sixth_decision(status: int) -> str:
    if 200 <= status <= 299:
        return "delivered"
    if 400 <= status <= 499 and status not in {408, 425, 429}:
        return "dead"
    return "pending"


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_its_decision(status: int) -> None:
    reason = reason_for(status)
    assert decided(reason).status == expected_first_decision(status)
    assert decided(reason, attempts=6, refusals=6).status == expected_sixth_decision(status)


#: As in the docs. 404 matches twice, and `!` takes precedence.
RETRY_ON = tuple(map(parse_status_range, ("500-599", "429", "!501", "404", "410", "!400-404", "!302")))
FINAL = {302, 400, 401, 402, 403, 404, 501}


@pytest.mark.parametrize("status", range(100, 600))
def test_retry_on_comes_before_the_default(status: int) -> None:
    rule = retry_rule(RETRY_ON, status)
    reason = reason_for(status)
    sixth = decided(reason, attempts=6, refusals=6, rule=rule)
    if status in FINAL:
        assert rule == "final"
        assert decided(reason, rule=rule).status == "dead"
    elif status in {410, 429} or status >= 500:
        assert rule == "retried"
        assert sixth == Decision("pending", NOW + 32)
    else:
        assert rule is None
        assert sixth.status == expected_sixth_decision(status)


@pytest.mark.parametrize("status", [None, *range(100, 600)])
def test_without_retry_on_nothing_is_listed(status: int | None) -> None:
    assert retry_rule((), status) is None


@pytest.mark.parametrize("reason", [r for r in OUTCOME_REASONS if r != "ok"])
def test_an_outcome_without_a_status_is_not_listed(reason: OutcomeReason) -> None:
    assert retry_rule(RETRY_ON, None) is None
    assert decided(reason, rule=None) == decided(reason)


@pytest.mark.parametrize("status", range(200, 300))
def test_retry_on_does_not_affect_2xx(status: int) -> None:
    for rule in ("retried", "final"):
        assert decided(reason_for(status), rule=rule).status == "delivered"


def test_retries_by_retry_on_end_after_give_up_after() -> None:
    late = DEFAULT.give_up_after - 1
    assert decided("rejected", refusals=5, attempts=2, age=late, rule="retried").status == "dead"
    assert decided("rejected", refusals=5, attempts=1, age=late, rule="retried").status == "pending"


@pytest.mark.parametrize("status", range(200, 600))
def test_refused_outcomes_are_those_that_may_concern_one_event(status: int) -> None:
    outcome = Outcome(reason_for(status), status, 0.1)
    refused = 400 <= status < 500 and status not in {408, 425, 429}
    assert is_refused(outcome, None) == refused
    assert is_refused(outcome, "final")
    assert not is_refused(outcome, "retried")


@pytest.mark.parametrize(
    ("written", "low", "high", "retried"),
    [("429", 429, 429, True), (503, 503, 503, True), ("500-599", 500, 599, True), ("!501", 501, 501, False)],
)
def test_status_expressions(written: object, low: int, high: int, *, retried: bool) -> None:
    found = parse_status_range(written)
    assert (found.low, found.high, found.retried) == (low, high, retried)
    assert str(found) == str(written)


@pytest.mark.parametrize(
    "written",
    [
        "200",
        "299-301",
        "600",
        "5xx",
        "",
        "!",
        "!!501",
        "50",
        "5000",
        "599-500",
        " 429",
        "429\n",
        "\u0665\u0660\u0660",
        True,
        200,
        4.29,
        None,
    ],
)
def test_an_invalid_status_expression_is_refused(written: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_status_range(written)


@pytest.mark.parametrize("reason", OUTCOME_REASONS)
def test_every_reason_has_its_decision(reason: OutcomeReason) -> None:
    first, tenth = decided(reason).status, decided(reason, attempts=10, refusals=10).status
    expected = {"ok": ("delivered", "delivered"), "gone": ("dead", "dead")}
    for refusal in ("rejected", "unsendable"):
        expected[refusal] = ("pending", "dead")
    assert (first, tenth) == expected.get(reason, ("pending", "pending"))


def test_the_list_of_reasons_matches_the_type() -> None:
    assert get_args(OutcomeReason) == OUTCOME_REASONS


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (10_000, 3600)]
)
def test_the_longest_pause_doubles_up_to_an_hour(attempts: int, longest: float) -> None:
    assert decided("server_error", attempts=attempts).due_at == NOW + longest
    assert decided("server_error", attempts=attempts, uniform=the_shortest).due_at == NOW


def test_refusals_are_five_attempts_within_a_quarter_of_an_hour() -> None:
    latest = [decided("rejected", refusals=n).due_at - NOW for n in range(1, 5)]
    soonest = [decided("rejected", refusals=n, uniform=the_shortest).due_at - NOW for n in range(1, 5)]
    assert sum(latest) == sum(REFUSAL_PAUSES) == 900
    assert sum(soonest) == pytest.approx(720)
    assert decided("rejected", refusals=5).status == "dead"


def test_a_refusal_after_a_long_outage_is_not_the_last() -> None:
    assert decided("rejected", attempts=40, refusals=1).status == "pending"


@pytest.mark.case("O-15")
def test_retry_after_is_the_shortest_pause_and_jitter_is_added() -> None:
    assert decided("throttled", retry_after=30, uniform=the_shortest).due_at == NOW + 30
    assert decided("throttled", retry_after=30, attempts=3).due_at == NOW + 34
    assert decided("rejected", retry_after=3000).due_at == NOW + 3015


def test_retry_after_is_respected_up_to_an_hour() -> None:
    assert decided("throttled", retry_after=1e9, uniform=the_shortest).due_at == NOW + 3600


def test_gives_up_when_the_next_attempt_would_come_too_late() -> None:
    last = DEFAULT.give_up_after - 1
    assert decided("connect", attempts=1, age=last).status == "pending"
    assert decided("connect", attempts=2, age=last).status == "dead"
    assert decided("connect", age=last, retry_after=5).status == "dead"


@given(
    attempts=st.integers(1, 10**9),
    first=st.floats(0.001, 1e6),
    factor=st.floats(1, 10),
    longest=st.floats(0.001, 1e6),
    retry_after=st.none() | st.floats(0, 1e12),
    seed=st.integers(),
)
def test_pauses_stay_within_bounds(
    attempts: int, first: float, factor: float, longest: float, retry_after: float | None, seed: int
) -> None:
    policy = RetryConfig.model_construct(first=first, factor=factor, max=longest, give_up_after=1e12)
    uniform = random.Random(seed).uniform  # noqa: S311 - jitter, not a secret
    decision = decided("timeout", attempts=attempts, retry_after=retry_after, policy=policy, uniform=uniform)
    pause = decision.due_at - NOW
    least = min(retry_after or 0.0, 3600.0)
    assert decision.status == "pending"
    assert least - 1e-6 <= pause <= least + longest + 1e-6


@given(age=st.floats(0, 1e9), reason=st.sampled_from(OUTCOME_REASONS), attempts=st.integers(1, 10_000))
def test_nothing_is_attempted_after_give_up_after(age: float, reason: OutcomeReason, attempts: int) -> None:
    decision = decided(reason, attempts=attempts, age=age)
    assert decision.status != "pending" or decision.due_at <= NOW - age + DEFAULT.give_up_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("99999999999999999999", 3600.0),
        ("9" * 5000, 3600.0),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("١٢", None),
        ("soon", None),
        ("Wed, 99 Foo 2025 10:00:00 GMT", None),
    ],
)
def test_retry_after_in_seconds_and_junk(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (-90, None), (10**7, 3600.0)])
def test_retry_after_as_a_date(ahead: int, seconds: float | None) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + ahead, UTC), usegmt=True)
    assert parse_retry_after(date, NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or (0 <= seconds <= 3600 and math.isfinite(seconds))
