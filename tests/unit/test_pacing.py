"""Operations keep to their rate, and to what their destinations can deliver."""

from __future__ import annotations

import pytest

from gatehouse.delivery.pacing import CatchingUp, Pacer


def run(rate: float, *, seconds: float, took: float = 0.0) -> int:
    """Run steps that take this long, and return how many events started."""
    now, events = 100.0, 0
    pacer = Pacer(rate, now)
    while True:
        now += pacer.delay(now)
        if now >= 100.0 + seconds:
            return events
        pacer.took(now, pacer.step_size)
        events += pacer.step_size
        now += took


@pytest.mark.parametrize(("rate", "size"), [(0.01, 1), (5, 1), (50, 5), (1000, 100), (90_000, 500)])
def test_a_step_is_a_tenth_of_a_second_of_the_rate(rate: float, size: int) -> None:
    assert Pacer(rate, 0.0).step_size == size


@pytest.mark.parametrize("rate", [0.5, 3, 50, 1000, 20_000])
def test_the_rate_is_kept(rate: float) -> None:
    assert rate * 10 - 1 <= run(rate, seconds=10) <= rate * 10.1 + 1


@pytest.mark.parametrize("took", [0.01, 0.09])
def test_steps_that_take_time_do_not_lower_the_rate(took: float) -> None:
    assert 490 <= run(50, seconds=10, took=took) <= 506


def test_steps_that_take_too_long_lower_the_rate() -> None:
    assert run(50, seconds=10, took=1.0) == 50


def test_a_pause_is_not_made_up_for() -> None:
    pacer = Pacer(50, 0.0)
    pacer.took(0.0, 5)
    now, events = 60.0, 0
    while now < 61.0:
        now += pacer.delay(now)
        pacer.took(now, 5)
        events += 5
    assert events <= 50 * 1.1 + 5


def test_the_first_step_starts_at_once() -> None:
    assert Pacer(0.001, 7.0).delay(7.0) == 0


def test_a_slow_destination_gets_no_more_than_it_can_catch_up_with() -> None:
    destination = CatchingUp(7, 0.0)
    assert destination.room(7, 0.0) == 50
    destination.added(50)
    assert destination.room(57, 0.1) == 0
    assert destination.room(47, 0.9) == 10


def test_a_fast_destination_may_have_a_second_of_its_speed() -> None:
    destination = CatchingUp(0, 0.0)
    destination.added(400)
    assert destination.room(0, 1.0) == 400


def test_a_destination_that_was_fast_and_stands_still_gets_less() -> None:
    destination = CatchingUp(0, 0.0)
    destination.added(400)
    destination.room(0, 1.0)
    destination.added(400)
    assert destination.room(400, 1.5) == 0
    assert destination.room(400, 2.5) == 0
    assert destination.room(380, 3.5) == 0


def test_deliveries_from_before_the_operation_do_not_count() -> None:
    destination = CatchingUp(1000, 0.0)
    assert destination.room(1000, 0.5) == 50
    assert destination.room(900, 0.6) == 50
    assert destination.room(940, 0.7) == 10
