"""The steady clock ignores jumps of the system clock, and follows its drift slowly."""

from __future__ import annotations

import pytest

from gatehouse.store.clock import SteadyClock

START = 1_700_000_000.0


class Machine:
    """The clocks of a machine."""

    def __init__(self) -> None:
        self.passed = 0.0
        #: The error of the system clock (seconds).
        self.wrong = 0.0

    def wall(self) -> float:
        return START + self.passed + self.wrong

    def elapsed(self) -> float:
        return self.passed


@pytest.mark.case("F-12")
@pytest.mark.parametrize("seconds", [-7200.0, 45.0, 8 * 86400.0])
def test_a_jump_is_reported_once_and_not_followed(seconds: float) -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.elapsed)
    machine.passed, machine.wrong = 10.0, seconds

    assert clock.compare() == pytest.approx(seconds)
    assert clock() == pytest.approx(START + 10)
    assert clock.wall_time_at(clock() + 5) == pytest.approx(machine.wall() + 5)

    machine.passed = 20.0
    assert clock.compare() == 0.0
    assert clock() == pytest.approx(START + 20)


@pytest.mark.case("F-12")
def test_a_correction_of_ntp_is_followed_slowly() -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.elapsed)
    machine.wrong, last = 0.5, clock()
    for _ in range(1200):
        machine.passed += 1.0
        assert clock.compare() == 0.0
        assert 0.999 <= clock() - last <= 1.001
        last = clock()

    assert clock() == pytest.approx(machine.wall(), abs=0.01)


@pytest.mark.case("F-12")
def test_a_long_time_between_two_comparisons_is_not_a_jump() -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.elapsed)
    machine.passed = 36_000.0

    assert clock.compare() == 0.0
    assert clock() == START + 36_000
