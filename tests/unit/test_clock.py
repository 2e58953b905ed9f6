"""A clock that goes on evenly when the machine's is set, and follows it slowly otherwise. Pure."""

from __future__ import annotations

import pytest

from gatehouse.store.clock import SteadyClock

START = 1_700_000_000.0


class Machine:
    """What a machine knows of time."""

    def __init__(self) -> None:
        self.passed = 0.0
        #: What its clock goes wrong by.
        self.wrong = 0.0

    def wall(self) -> float:
        return START + self.passed + self.wrong

    def elapsed(self) -> float:
        return self.passed


@pytest.mark.case("F-12")
@pytest.mark.parametrize("seconds", [-7200.0, 45.0, 8 * 86400.0])
def test_a_jump_is_told_once_and_not_followed(seconds: float) -> None:
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
def test_what_ntp_corrects_is_followed_slowly() -> None:
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
def test_time_in_which_nobody_looked_is_no_jump() -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.elapsed)
    machine.passed = 36_000.0

    assert clock.compare() == 0.0
    assert clock() == START + 36_000
