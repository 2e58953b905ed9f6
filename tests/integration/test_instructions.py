"""No stage of an event's way takes noticeably more instructions than it did: see bench/instructions.py."""

from __future__ import annotations

import pytest

from bench import instructions
from bench.instructions import REGRESSED, LEAST, MOST, REFERENCE, STAGES, Instructions
from machine import lacking

pytestmark = pytest.mark.timeout(660)

_RECORD = {"ingest": 3.0, "store": 1.0}


@pytest.fixture(scope="module")
def found() -> Instructions:
    """Count everything once: loading the program is most of it."""
    if instructions.find_valgrind() is None:
        lacking("no valgrind: install it, run tests/bench/fetch_valgrind.sh, or set GATEHOUSE_TEST_VALGRIND")
    return instructions.measure((*STAGES, REFERENCE, REGRESSED))


def test_an_event_takes_no_more_instructions_than_on_record(found: Instructions) -> None:
    ratios = instructions.ratios({stage: found[stage] for stage in (*STAGES, REFERENCE)})

    assert instructions.regressions(instructions.recorded(), ratios) == []


def test_the_guard_sees_requests_that_are_verified_more_than_once(found: Instructions) -> None:
    as_it_is = instructions.ratios({stage: found[stage] for stage in (*STAGES, REFERENCE)})
    regressed = {**as_it_is, "ingest": found[REGRESSED] / found[REFERENCE]}

    (said,) = instructions.regressions(as_it_is, regressed)

    assert said.startswith("ingest: ")


def test_every_stage_is_on_record() -> None:
    assert set(instructions.recorded()) == set(STAGES)


def test_a_stage_that_got_dearer_is_named_with_both_figures_and_the_way_to_record() -> None:
    (said,) = instructions.regressions(_RECORD, {"ingest": 3.45, "store": 1.0})

    assert said.startswith("ingest: 3.450 x the reference, on record 3.000;")
    assert "make bench-guard RECORD=1" in said


def test_a_stage_that_is_not_on_record_is_no_pass() -> None:
    assert instructions.regressions(_RECORD, {"deliver": 0.1}) != []


@pytest.mark.parametrize("factor", [LEAST + 0.01, 1.0, MOST - 0.01])
def test_small_differences_are_let_pass(factor: float) -> None:
    found = {stage: ratio * factor for stage, ratio in _RECORD.items()}

    assert instructions.regressions(_RECORD, found) == []
    assert instructions.gains(_RECORD, found) == []


def test_a_stage_that_got_much_cheaper_is_told_and_fails_nothing() -> None:
    found = {"ingest": 2.0, "store": 1.0}

    assert instructions.regressions(_RECORD, found) == []
    assert [line.partition(":")[0] for line in instructions.gains(_RECORD, found)] == ["ingest"]


def test_what_can_not_be_counted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_TEST_VALGRIND", "false")

    with pytest.raises(RuntimeError, match="can't be counted"):
        instructions.measure()
